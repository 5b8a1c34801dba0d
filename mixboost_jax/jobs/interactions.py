# SPDX-License-Identifier: Apache-2.0
"""`--job=interactions`: the curve J^(m) of a trained network, a map and a tree of one picture.

If the config asks, also what an attack does to each order, and what outliers are told by. What is
measured is kept part by part in `interactions.parts.json`, so a stopped job goes on; the whole
becomes `interactions.json`, a results file that the report reads beside `results.json`.

`monitor` plays the same games while a network trains.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import data, interactions, keys
from mixboost_jax.array_types import LogitsFn, PRNGKey
from mixboost_jax.data import loading
from mixboost_jax.interactions import Fill, Game, PairPopulation, Strength
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import interrupt, log, results, workdir, writers
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.runtime.results import Clock, Flag, Metric, Results
from mixboost_jax.runtime.workdir import Parts
from mixboost_jax.schema import Settings
from mixboost_jax.train.build import pixel_fill
from mixboost_jax.train.monitor import SpacedMonitor

FILE, PARTS_FILE = "interactions.json", "interactions.parts.json"
MAX_SHOWN = 32
"""Pixels per side of the picture that a map and a tree carry along."""
MAX_SEARCHED = 2000
"""Pictures looked at to find enough that the network gets right."""
DROP_WIDTH = 0.5
"""The true logit falls by `attack_drop` to `attack_drop` + this."""


@dataclasses.dataclass(frozen=True)
class Pictures:
  """What is explained: float images in [0, 1], true classes, row numbers in the split."""

  images: Float[np.ndarray, "N H W C"]
  labels: Int[np.ndarray, " N"]
  rows: Int[np.ndarray, " N"]


def check(item: Run) -> None:
  """Raises ValueError if the grids are finer than the pictures."""
  chosen, (height, width, _) = item.settings.interactions, item.dataset.image_shape
  for key in ("grid", "map_grid", "tree_grid"):
    if getattr(chosen, key) > min(height, width):
      raise ValueError(
        f"config.interactions.{key}={getattr(chosen, key)} is finer than the {height}x{width} "
        f"pictures of {item.dataset.title}; use at most {min(height, width)}."
      )


def run(
  item: Run, place: workdir.Workdir, trained: Restored, *, command: str, stop: interrupt.StopRequest
) -> None:
  """Measures the interactions of the trained network and writes `interactions.json`."""
  parts = Parts(
    place.path / PARTS_FILE,
    identity=[item.settings.to_json(), trained.metadata.get("step", item.trainer.num_steps)],
    should_stop=stop.agreed,
  )
  with stop.raising():  # one part may take very long
    found = measure(item, item.trainer.predictor(trained.state), parts=parts)
  watched = writers.curve(writers.read(place.metrics), "interactions/")
  if not log.is_primary():
    return
  curves = {**found.curves, **({"interactions_training": watched} if watched else {})}
  results.write(place.path / FILE, dataclasses.replace(found, curves=curves, command=command))
  parts.remove()
  log.info(f"{item.settings.name}: wrote {place.path / FILE}")


def measure(item: Run, logits_fn: LogitsFn, *, parts: Parts) -> Results:
  """Measures what `config.interactions` asks for; finished parts are not measured again."""
  clock = Clock("interactions")
  chosen, settings = item.settings.interactions, item.settings
  pictures = correct_pictures(item, logits_fn, num=chosen.num_images)
  root = _root(settings)
  tasks: dict[str, tuple[Any, Callable[[], Any]]] = {
    "curve": (True, lambda: _strength(root, item, logits_fn, pictures).to_json(full=True)),
    "attack": (
      chosen.attack,
      lambda: under_attack(jax.random.fold_in(root, 3), item, logits_fn, pictures),
    ),
    "outliers": (
      settings.data.outliers,
      lambda: of_outliers(jax.random.fold_in(root, 4), item, logits_fn),
    ),
    "map": (chosen.map_grid, lambda: _map(root, item, logits_fn, pictures)),
    "tree": (chosen.tree_grid, lambda: _tree(item, logits_fn, pictures)),
    "and_or": (chosen.and_or_players, lambda: _and_or(item, logits_fn, pictures)),
  }
  found = {name: parts.get(name, task) for name, (wanted, task) in tasks.items() if wanted}
  strength = Strength.from_json(found["curve"])
  rows = interactions.curve_rows(strength, confidence=settings.evaluate.confidence)
  curves: dict[str, Any] = {"interactions": rows}
  if "attack" in found:
    curves["interaction_attack"] = found["attack"]["rows"]
  if "and_or" in found:
    curves |= found["and_or"]
  if "map" in found or "and_or" in found:
    curves["interaction_picture"] = _pixels(pictures.images[0])
  curves |= {f"interaction_{n}": found[n] for n in ("outliers", "map", "tree") if n in found}
  metrics = _metrics(item, strength, found.get("attack"))
  return clock.results(settings, metrics, curves, flags=_flags(strength))


def _flags(strength: Strength) -> tuple[Flag, ...]:
  """Says where the mean of |I| is still biased for want of contexts."""
  where = strength.is_biased
  if not where.any():
    return ()
  orders = np.array(strength.orders)[where].tolist()
  share = np.nanmax(np.abs(strength.bias[where] / strength.strength[where]))
  words = (
    f"J^(m) and E|I| of order{'s' if len(orders) > 1 else ''} {', '.join(map(str, orders))} are "
    f"too large by {100 * share:.0f} % or more: {strength.num_contexts} contexts are too few "
    "there, and intervals do not hold it."
  )
  remedy = "Raise config.interactions.max_contexts; more rounds or pairs do not help."
  return (Flag("interaction_bias", "amber", words, remedy),)


def _metrics(
  item: Run, strength: Strength, attacked: Mapping[str, Any] | None
) -> tuple[Metric, ...]:
  """M, mean J, their cost, and the share of pictures that the attack brought to its goal."""
  confidence, count = item.settings.evaluate.confidence, len(strength.per_game)
  metric = functools.partial(
    Metric,
    low=None,
    high=None,
    confidence=None,
    interval="none",
    unit="",
    better="none",
    dataset=item.dataset.name,
    split=item.settings.evaluate.split,
    source=item.dataset.source,
  )
  found = []
  for name, one in interactions.measures(strength, confidence=confidence).items():
    ends: dict[str, Any] = {"low": one.low, "high": one.high, "confidence": confidence}
    ends = {} if one.low is None else {**ends, "interval": "bootstrap over pictures"}
    found.append(metric(name=name, value=float(one.mean), count=count, **ends))
  spent = float(strength.evaluations)
  found.append(metric(name="interaction_evaluations", value=spent, count=count))
  if attacked is not None:
    share, num = attacked["reached"] / attacked["count"], attacked["count"]
    found.append(metric(name="interaction_attack_reached", value=share, count=num))
  return tuple(found)


def _root(settings: Settings) -> PRNGKey:
  return keys.stream_key(keys.root_key(settings.seed), keys.Stream.INTERACT)


def _strength(
  root: PRNGKey, item: Run, logits_fn: LogitsFn, pictures: Pictures, **options: Any
) -> Strength:
  """J^(m) of the pictures, as the config asks or as `options` change it."""
  chosen = item.settings.interactions
  asked = {
    "num_pairs": chosen.pairs_per_image,
    "num_contexts": chosen.contexts,
    "target_stderr": chosen.target_stderr or None,
    "max_rounds": chosen.max_rounds,
    "max_contexts": chosen.max_contexts,
    "chunk_size": chosen.chunk_size,
  }
  games = games_of(item, logits_fn, pictures, grid=chosen.grid)
  orders, population = orders_of(item.settings), population_of(item.settings)
  return interactions.estimate_strength(root, games, population, orders=orders, **asked | options)


def _map(root: PRNGKey, item: Run, logits_fn: LogitsFn, pictures: Pictures) -> list[dict[str, Any]]:
  """I(i, j) of the strongest cell i of the first picture with every cell j."""
  chosen = item.settings.interactions
  game = game_of(item, logits_fn, pictures.images[0], pictures.labels[0], grid=chosen.map_grid)
  player = interactions.strongest_player(game, chunk_size=chosen.chunk_size)
  found = interactions.interaction_map(
    jax.random.fold_in(root, 2), game, player, chunk_size=chosen.chunk_size
  )
  return [
    {
      "step": cell,
      "value": float(found.mean[cell]),
      "stderr": float(found.stderr[cell]),
      "chosen": +(cell == player),
    }
    for cell in range(game.num_players)
  ]


def _tree(item: Run, logits_fn: LogitsFn, pictures: Pictures) -> list[dict[str, Any]]:
  """The tree of the first picture by T([A])."""
  grid = item.settings.interactions.tree_grid
  game = game_of(item, logits_fn, pictures.images[0], pictures.labels[0], grid=grid)
  return interactions.tree_rows(interactions.patch_tree(game, grid=grid))


def _and_or(item: Run, logits_fn: LogitsFn, pictures: Pictures) -> dict[str, Any]:
  """How few AND and OR patterns explain the pictures, and the strongest of the first one."""
  chosen = item.settings.interactions
  shape = interactions.rectangle(chosen.and_or_players)
  players = interactions.cell_labels(*pictures.images.shape[1:3], shape=shape)
  make = functools.partial(game_of, item, logits_fn, players=players)
  games = map(make, pictures.images, pictures.labels)
  tables = np.stack(
    [interactions.exact.values(game, chunk_size=chosen.chunk_size) for game in games]
  )
  found = interactions.and_or(tables, noise_share=chosen.and_or_noise)
  confidence = item.settings.evaluate.confidence
  cells = {"rows": shape[0], "columns": shape[1]}
  return {
    "interaction_and_or": [{**row, **cells} for row in interactions.pattern_rows(found)],
    "interaction_and_or_error": interactions.faithfulness_rows(
      found, tables, confidence=confidence
    ),
  }


def _pixels(image: np.ndarray) -> list[dict[str, Any]]:
  """The picture as rows of a curve, thinned to at most `MAX_SHOWN` pixels per side."""
  stride = -(-max(image.shape[:2]) // MAX_SHOWN)
  small = image[::stride, ::stride]
  if small.shape[-1] == 1:
    small = np.repeat(small, 3, axis=-1)
  width = small.shape[1]
  return [
    {"step": k, "column": k % width, "red": r, "green": g, "blue": b}
    for k, (r, g, b) in enumerate(np.round(small.reshape(-1, 3) * 255).astype(int).tolist())
  ]


def under_attack(
  root: PRNGKey, item: Run, logits_fn: LogitsFn, pictures: Pictures
) -> dict[str, Any]:
  """Returns Delta J^(m) of the pictures on which the comparable attack reached its goal.

  Clean and attacked pictures are measured with the same pairs and contexts.
  """
  chosen = item.settings.interactions
  pair_key, attack_key, context_key = jax.random.split(root, 3)
  attack = functools.partial(
    interactions.comparable_attack,
    epsilon=chosen.attack_epsilon,
    step_size=chosen.attack_step_size,
    num_steps=chosen.attack_steps,
    drop=(chosen.attack_drop, chosen.attack_drop + DROP_WIDTH),
  )
  images, labels = jnp.asarray(pictures.images), jnp.asarray(pictures.labels)
  attacked, reached = map(np.asarray, jax.jit(attack)(attack_key, logits_fn, images, labels))
  found = {"reached": int(reached.sum()), "count": len(reached)}
  if not reached.any():
    log.warn(
      f"{item.settings.name}: the attack reached its goal on none of {len(reached)} pictures; for "
      "Delta J raise config.interactions.attack_steps or lower config.interactions.attack_drop."
    )
    return {**found, "rows": []}
  pairs = interactions.sample_pairs(
    pair_key, population_of(item.settings), num_pairs=chosen.pairs_per_image
  )
  orders = orders_of(item.settings)
  utilities = []
  for number in np.flatnonzero(reached):
    clean, after = (
      interactions.multi_order(
        jax.random.fold_in(context_key, int(number)),
        game_of(item, logits_fn, images[number], pictures.labels[number], grid=chosen.grid),
        orders=orders,
        pairs=pairs,
        num_contexts=chosen.contexts,
        chunk_size=chosen.chunk_size,
      ).mean
      for images in (pictures.images, attacked)
    )
    utility = interactions.attacking_utility(clean, after, orders=orders, n=chosen.grid**2)
    utilities.append(np.asarray(utility, np.float64))
  rows = interactions.utility_rows(
    np.stack(utilities),
    orders=orders,
    num_players=chosen.grid**2,
    confidence=item.settings.evaluate.confidence,
  )
  return {**found, "rows": rows}


def of_outliers(root: PRNGKey, item: Run, logits_fn: LogitsFn) -> list[dict[str, Any]]:
  """Returns Delta I_avg^(m) and Delta P^(m) of the planted outliers against other pictures.

  Both kinds are training pictures that the network classifies as labelled; outliers that it has not
  learned say nothing of what it learns them by. `data.outliers` says how many were planted.
  """
  split, wanted = item.dataset.train, item.settings.data.outliers
  rows = loading.outlier_rows(len(split), num=wanted)
  is_outlier = np.isin(np.arange(len(split)), rows)
  found = []
  for kind in (is_outlier, ~is_outlier):
    some = np.flatnonzero(kind)[:MAX_SEARCHED]
    part = data.Split(split.images[some], split.labels[some], split.ids[some])
    right = classified(item, logits_fn, part)
    if not len(right):
      log.warn(
        f"{item.settings.name}: the network gets none of {len(some)} "
        f"{'outliers' if kind is is_outlier else 'other training pictures'} as labelled; "
        "Delta I_avg is left out. Train it longer."
      )
      return []
    chosen = right[in_turn(part.labels[right], item.settings.interactions.num_images)]
    found.append(_strength(root, item, logits_fn, pictures_of(split, some[chosen])))
  return interactions.outlier_rows(*found, confidence=item.settings.evaluate.confidence)


def monitor(item: Run, stored: Mapping[str, Any]) -> SpacedMonitor | None:
  """Returns what watches J^(m) and M while the run trains; None if the config does not ask.

  It measures the first pictures of the classes of the evaluated split, right or wrong. `stored` is
  the monitor's `state()` in the metadata of the checkpoint that the run goes on from.
  """
  chosen = item.settings.interactions
  if not chosen.monitor_every_steps:
    return None
  split = split_of(item)
  pictures = pictures_of(split, in_turn(np.asarray(split.labels), chosen.monitor_images))
  root = _root(item.settings)

  def watch(logits_fn: LogitsFn) -> dict[str, float]:
    options = {"num_pairs": 16, "num_contexts": 4, "pilot_pairs": 0, "target_stderr": None}
    strength = _strength(root, item, logits_fn, pictures, **options)
    found = interactions.measures(strength)
    order = zip(strength.orders, strength.relative, strict=True)
    return {
      **{name.removeprefix("interaction_"): one.mean for name, one in found.items()},
      **{f"order_{m}": float(value) for m, value in order},
    }

  return SpacedMonitor(
    watch,
    every_steps=chosen.monitor_every_steps,
    share=chosen.monitor_share,
    state=stored,
    agree=_first_of_all,
  )


def _first_of_all(steps: int) -> int:
  """Returns what the first process says."""
  if jax.process_count() == 1:
    return steps
  from jax.experimental import multihost_utils

  return int(multihost_utils.broadcast_one_to_all(np.asarray(steps)))


def split_of(item: Run) -> data.Split:
  """Returns the split that `evaluate.split` names."""
  if item.settings.evaluate.split == "validation":
    assert item.dataset.validation is not None  # checked when the run was built
    return item.dataset.validation
  return item.dataset.test


def in_turn(labels: Int[np.ndarray, " N"], num: int) -> Int[np.ndarray, " num"]:
  """Returns the rows of the first picture of each class, then of the second, ...: `num` in all."""
  turn = np.zeros(len(labels), int)
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    turn[rows] = np.arange(len(rows))
  return np.lexsort((labels, turn))[:num]


def correct_pictures(item: Run, logits_fn: LogitsFn, *, num: int) -> Pictures:
  """Returns pictures that the network classifies correctly, of all classes in turn.

  Paper: the public code of Deng et al. 2022, arXiv:2111.06236, keeps correct pictures only.
  """
  split = split_of(item).part(0, MAX_SEARCHED)
  rows = classified(item, logits_fn, split)
  if not len(rows):
    raise ValueError(
      f"{item.settings.name}: the network gets none of {len(split)} pictures right, so there is "
      "nothing to explain; train it longer."
    )
  return pictures_of(split, rows[in_turn(split.labels[rows], num)])


def pictures_of(split: data.Split, rows: Int[np.ndarray, " N"]) -> Pictures:
  """Returns the pictures of these rows as floats."""
  return Pictures(split.images[rows].astype(np.float32) / 255, np.asarray(split.labels[rows]), rows)


def classified(item: Run, logits_fn: LogitsFn, split: data.Split) -> Int[np.ndarray, " rows"]:
  """Returns the rows of the split that the network classifies as labelled."""
  size = item.settings.evaluate.batch_size
  right = []
  for start in range(0, len(split), size):
    batch = split.part(start, start + size)
    padded = np.concatenate([batch.images, np.zeros_like(split.images[: size - len(batch)])])
    found = np.asarray(_predict(logits_fn, padded))[: len(batch)] == batch.labels
    right.append(start + np.flatnonzero(found))
  return np.concatenate(right)


@jax.jit
def _predict(network: LogitsFn, images: UInt8[Array, "N H W C"]) -> Int[Array, " N"]:
  return network(images.astype(jnp.float32) / 255).argmax(1)


def fill_of(item: Run) -> Fill:
  """Returns what an absent cell shows."""
  wanted = item.settings.interactions.fill
  own: Mapping[str, Fill] = {"blur": "blur", "picture_mean": "mean"}  # of each picture
  if wanted in own:
    return own[wanted]
  return np.asarray(pixel_fill(wanted, item.settings, item.dataset))


def game_of(
  item: Run,
  logits_fn: LogitsFn,
  image: Float[np.ndarray, "H W C"],
  label: int | np.integer,
  *,
  grid: int | None = None,
  players: Int[np.ndarray, "H W"] | None = None,
) -> Game:
  """Makes the game of one picture; its evaluations are spread over the devices of the run."""
  chosen = item.settings.interactions
  replicated = meshes.replicated(item.mesh)
  game = interactions.image_game(
    logits_fn,
    jnp.asarray(image),
    jnp.asarray(label, jnp.int32),
    grid=grid,
    players=players,
    reward=chosen.reward,
    fill=fill_of(item),
  )
  sharding = meshes.batch_sharding(item.mesh) if item.mesh.size > 1 else None
  arguments = jax.tree.map(lambda leaf: data.place(leaf, replicated), game.args)
  return dataclasses.replace(game, args=arguments, sharding=sharding)


def games_of(item: Run, logits_fn: LogitsFn, pictures: Pictures, *, grid: int) -> list[Game]:
  """Makes the games of several pictures."""
  make = functools.partial(game_of, item, logits_fn, grid=grid)
  return [make(image, label) for image, label in zip(pictures.images, pictures.labels, strict=True)]


def population_of(settings: Settings) -> PairPopulation:
  """Returns the pairs that the curve averages over."""
  chosen = settings.interactions
  kinds: Mapping[str, Callable[[int], PairPopulation]] = {
    "uniform": interactions.grid_population,
    "neighbour": functools.partial(interactions.neighbour_population, stride=chosen.stride),
    "window": functools.partial(interactions.window_population, stride=chosen.stride),
  }
  return kinds[chosen.pairs](chosen.grid)


def orders_of(settings: Settings) -> tuple[int, ...]:
  """Returns the sampled orders; small grids merge some ratios."""
  chosen = settings.interactions
  return interactions.orders_of(chosen.grid**2, ratios=chosen.ratios)
