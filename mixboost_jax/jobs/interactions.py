# SPDX-License-Identifier: Apache-2.0
"""`--job=interactions`: the curve J^(m) of a trained network, a map and a tree of one picture.

If the config asks, also what an attack does to each order, and what outliers are told by.

What is measured is kept part by part in `interactions.parts.json`, so a stopped job goes on; the
whole becomes `interactions.json`, a results file that the report reads beside `results.json`.
"""

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mixboost_jax import interactions, keys
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.interactions import Strength
from mixboost_jax.jobs import interaction_contrasts as contrasts
from mixboost_jax.jobs import interaction_games as games
from mixboost_jax.jobs.interaction_games import Pictures
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import environment, log, results, workdir, writers
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.runtime.parts import Parts
from mixboost_jax.runtime.results import Flag, Metric, Results

FILE, PARTS_FILE = "interactions.json", "interactions.parts.json"
MAX_SHOWN = 32
"""Pixels per side of the picture that a map and a tree carry along."""


check = games.check


def run(item: Run, place: workdir.Workdir, trained: Restored, *, command: str) -> None:
  """Measures the interactions of the trained network and writes `interactions.json`."""
  parts = Parts(
    place.path / PARTS_FILE,
    identity=[item.settings.to_json(), trained.metadata.get("step", item.trainer.num_steps)],
  )
  found = measure(item, item.trainer.predictor(trained.state), parts=parts)
  watched = writers.curve(writers.read(place.metrics), "interactions/")
  if not log.is_primary():
    return
  if watched:
    found = dataclasses.replace(
      found, curves={**found.curves, "interactions_training": watched}, command=command
    )
  results.write(place.path / FILE, dataclasses.replace(found, command=command))
  parts.remove()
  log.info(f"{item.settings.name}: wrote {place.path / FILE}")


def measure(item: Run, logits_fn: LogitsFn, *, parts: Parts) -> Results:
  """Measures what `config.interactions` asks for; finished parts are not measured again."""
  started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
  chosen, settings = item.settings.interactions, item.settings
  pictures = games.correct_pictures(item, logits_fn, num=chosen.num_images)
  root = keys.stream_key(keys.root_key(settings.seed), keys.Stream.INTERACT)
  tasks: dict[str, Callable[[], Any]] = {
    "curve": functools.partial(_strength, root, item, logits_fn, pictures)
  }
  if chosen.noise:
    noisy = dataclasses.replace(pictures, images=_noisy(root, pictures.images, chosen.noise))
    tasks["noisy"] = functools.partial(_strength, root, item, logits_fn, noisy)
  if chosen.attack:
    tasks["attack"] = functools.partial(
      contrasts.under_attack, jax.random.fold_in(root, 3), item, logits_fn, pictures
    )
  if settings.data.outliers:
    measure_of = functools.partial(_strength, jax.random.fold_in(root, 4), item, logits_fn)
    tasks["outliers"] = functools.partial(contrasts.of_outliers, item, logits_fn, measure_of)
  if chosen.map_grid:
    tasks["map"] = functools.partial(_map, root, item, logits_fn, pictures)
  if chosen.tree_grid:
    tasks["tree"] = functools.partial(_tree, item, logits_fn, pictures)
  found = {name: parts.get(name, task) for name, task in tasks.items()}
  strength = Strength.from_json(found["curve"])
  noisy_strength = Strength.from_json(found["noisy"]) if "noisy" in found else None
  confidence = settings.evaluate.confidence
  curves: dict[str, Any] = {
    "interactions": interactions.curve_rows(strength, confidence=confidence, noisy=noisy_strength)
  }
  if "attack" in found:
    curves["interaction_attack"] = found["attack"]["rows"]
  if "outliers" in found:
    curves["interaction_outliers"] = found["outliers"]
  if "map" in found:
    curves |= {"interaction_map": found["map"], "interaction_picture": _pixels(pictures.images[0])}
  if "tree" in found:
    curves["interaction_tree"] = found["tree"]
  return Results(
    name=settings.name,
    settings=settings.to_json(),
    config_hash=settings_lib.config_hash(settings),
    environment=environment.describe(),
    command="",
    started=started.isoformat(timespec="seconds"),
    seconds={"interactions": time.perf_counter() - clock},
    metrics=(
      *_metrics(item, strength),
      _evaluations(item, strength),
      *([_reached(item, found["attack"])] if "attack" in found else []),
    ),
    curves=curves,
    samples={},
    flags=_flags(strength),
  )


def _flags(strength: Strength) -> tuple[Flag, ...]:
  """Says where the mean of |I| is still biased for want of contexts."""
  orders = [m for m, flagged in zip(strength.orders, strength.is_biased, strict=True) if flagged]
  if not orders:
    return ()
  share = np.nanmax(
    np.abs(strength.bias[strength.is_biased] / strength.strength[strength.is_biased])
  )
  return (
    Flag(
      "interaction_bias",
      "amber",
      f"J^(m) and E|I| of order{'s' if len(orders) > 1 else ''} {', '.join(map(str, orders))} are "
      f"too large by {100 * share:.0f} % or more: {strength.num_contexts} contexts are too few "
      "there, and intervals do not hold it.",
      "Raise config.interactions.max_contexts; more rounds or pairs do not help.",
    ),
  )


def _strength(root: Any, item: Run, logits_fn: LogitsFn, pictures: Pictures) -> dict[str, Any]:
  chosen = item.settings.interactions
  return interactions.estimate_strength(
    root,
    games.games_of(item, logits_fn, pictures, grid=chosen.grid),
    games.population_of(item.settings),
    orders=games.orders_of(item.settings),
    num_pairs=chosen.pairs_per_image,
    num_contexts=chosen.contexts,
    target_stderr=chosen.target_stderr or None,
    max_rounds=chosen.max_rounds,
    max_contexts=chosen.max_contexts,
    chunk_size=chosen.chunk_size,
  ).to_json(full=True)


def _noisy(root: Any, images: np.ndarray, deviation: float) -> np.ndarray:
  noise = jax.random.normal(jax.random.fold_in(root, 1), images.shape)
  return np.clip(images + deviation * np.asarray(noise), 0, 1)


def _map(root: Any, item: Run, logits_fn: LogitsFn, pictures: Pictures) -> list[dict[str, Any]]:
  """I(i, j) of the strongest cell i of the first picture with every cell j."""
  chosen = item.settings.interactions
  game = games.game_of(
    item, logits_fn, pictures.images[0], pictures.labels[0], grid=chosen.map_grid
  )
  player = interactions.strongest_player(game, chunk_size=chosen.chunk_size)
  mean, error = interactions.interaction_map(
    jax.random.fold_in(root, 2), game, player, chunk_size=chosen.chunk_size
  )
  return [
    {
      "step": cell,
      "value": float(mean[cell]),
      "stderr": float(error[cell]),
      "chosen": +(cell == player),
    }
    for cell in range(game.num_players)
  ]


def _tree(item: Run, logits_fn: LogitsFn, pictures: Pictures) -> list[dict[str, Any]]:
  """The tree of the first picture by T([A])."""
  grid = item.settings.interactions.tree_grid
  game = games.game_of(item, logits_fn, pictures.images[0], pictures.labels[0], grid=grid)
  return interactions.tree_rows(interactions.patch_tree(game, grid=grid))


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


def _metrics(item: Run, strength: Strength) -> list[Metric]:
  confidence = item.settings.evaluate.confidence
  return [
    _metric(
      item,
      name,
      one.value,
      low=one.low,
      high=one.high,
      confidence=None if one.low is None else confidence,
      interval="none" if one.low is None else "bootstrap over pictures",
      count=len(strength.per_game),
    )
    for name, one in interactions.measures(strength, confidence=confidence).items()
  ]


def _evaluations(item: Run, strength: Strength) -> Metric:
  return _metric(
    item, "interaction_evaluations", strength.evaluations, count=len(strength.per_game)
  )


def _reached(item: Run, found: Mapping[str, Any]) -> Metric:
  """How many of the pictures the comparable attack brought to its goal."""
  share = found["reached"] / found["count"]
  return _metric(item, "interaction_attack_reached", share, count=found["count"])


def _metric(item: Run, name: str, value: float, **changes: Any) -> Metric:
  fields: Mapping[str, Any] = {
    "low": None,
    "high": None,
    "confidence": None,
    "interval": "none",
    "unit": "",
    "better": "none",
    "dataset": item.dataset.name,
    "split": item.settings.evaluate.split,
    "source": item.dataset.source,
  }
  return Metric(name=name, value=float(value), **{**fields, **changes})


def monitor(item: Run, stored: Mapping[str, Any]) -> interactions.SpacedMonitor | None:
  """Returns what watches J^(m) and M while the run trains; None if the config does not ask.

  It measures the first pictures of the classes of the evaluated split, right or wrong.

  Args:
    item: the run.
    stored: the monitor's `state()` in the metadata of the checkpoint that the run goes on from.
  """
  chosen = item.settings.interactions
  if not chosen.monitor_every_steps:
    return None
  split = games.split_of(item)
  labels = np.asarray(split.labels)
  rows = games.in_turn(labels, chosen.monitor_images)
  images, labels = split.images[rows].astype(np.float32) / 255, labels[rows]
  pictures = Pictures(images, labels, rows)
  root = keys.stream_key(keys.root_key(item.settings.seed), keys.Stream.INTERACT)

  def watch(logits_fn: LogitsFn) -> dict[str, float]:
    strength = interactions.estimate_strength(
      root,
      games.games_of(item, logits_fn, pictures, grid=chosen.grid),
      games.population_of(item.settings),
      orders=games.orders_of(item.settings),
      num_pairs=16,
      num_contexts=4,
      pilot_pairs=0,
      chunk_size=chosen.chunk_size,
    )
    found = interactions.measures(strength)
    order = zip(strength.orders, strength.relative, strict=True)
    return {
      **{name.removeprefix("interaction_"): one.value for name, one in found.items()},
      **{f"order_{m}": float(value) for m, value in order},
    }

  return interactions.SpacedMonitor(
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
