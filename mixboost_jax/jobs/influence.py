# SPDX-License-Identifier: Apache-2.0
"""`--job=influence`: which training pictures help and harm the predictions of a trained network.

Training pictures are taken as they are (real) and as the run last saw them (augmented), test
pictures as they are (clean) and attacked. `influence.json` holds the distribution of the removal
effects of each pair of kinds, gradient norms and cosines, and for each test picture the training
pictures at both ends; `influence.png` shows them. Blocks of test pictures are kept in
`influence.parts.json`, so a stopped job goes on.

The loss is the cross-entropy of the one picture, with the label smoothing of the run; further terms
of its objective are left out.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import analysis, attacks, files, keys, losses, metrics
from mixboost_jax.analysis import Problem
from mixboost_jax.jobs import contact_sheet, interactions
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import interrupt, log, results, workdir
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.runtime.results import Clock, Metric, Results
from mixboost_jax.runtime.workdir import Parts
from mixboost_jax.schema import Influence

FILE, PARTS_FILE, SHEET = "influence.json", "influence.parts.json", "influence.png"
ATTACK = "jku-0.5-10"
"""Of `attacks.PRESETS`: what attacked test pictures are made with."""
ORIGINS, KINDS = ("real", "augmented"), ("clean", "attacked")
BLOCK = 10
"""Test pictures that are solved for between two saves."""
PERCENTILES = tuple(range(1, 100))
_SHOWN_TESTS = 12
_SCALE = 1e6  # effects are of the order of 1 / number of training pictures


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Pictures and the soft labels that they are judged by."""

  images: Any
  targets: Any
  rows: Any
  """In their split."""

  def part(self, start: int, stop: int) -> tuple[Any, Any]:
    """Returns pictures and labels of a range."""
    return self.images[start:stop], self.targets[start:stop]


def check(item: Run) -> None:
  """Raises ValueError for runs whose training pictures do not stand for one example each."""
  chosen, num = item.settings.influence, len(item.dataset.train)
  if jax.process_count() > 1:
    raise ValueError("--job=influence runs in one process; start it on one host.")
  if chosen.num_train > num:
    raise ValueError(
      f"config.influence.num_train={chosen.num_train}: {item.dataset.title} has {num} training "
      "pictures; use at most that many."
    )
  if item.settings.objective.jsd_weight > 0:
    raise ValueError(
      "config.objective.jsd_weight: the loss of such a run compares several pictures of one "
      "example; --job=influence needs 0."
    )


def run(
  item: Run, place: workdir.Workdir, trained: Restored, *, command: str, stop: interrupt.StopRequest
) -> None:
  """Measures influences of the trained network; writes `influence.json` and the sheet."""
  parts = Parts(
    place.path / PARTS_FILE,
    identity=[item.settings.to_json(), trained.metadata.get("step", item.trainer.num_steps)],
    should_stop=stop.agreed,
  )
  clock = Clock("influence")
  with stop.raising():
    found, sheet = measure(item, trained, clock, parts=parts)
  if not log.is_primary():
    return
  results.write(place.path / FILE, dataclasses.replace(found, command=command))
  with files.replacing(place.path / SHEET) as temporary:
    contact_sheet.draw(sheet, zoom=2).save(temporary, format="PNG")
  parts.remove()
  log.info(f"{item.settings.name}: wrote {place.path / FILE} and {SHEET}")


def measure(
  item: Run, trained: Restored, clock: Clock, *, parts: Parts
) -> tuple[Results, list[tuple[str, np.ndarray]]]:
  """Returns the numbers, and the rows of the sheet."""
  settings = item.settings
  network = _on_one_device(item.trainer.predictor(trained.state))
  examples = {origin: training_pictures(item, augmented=origin != "real") for origin in ORIGINS}
  tests = {kind: test_pictures(item, network, attacked=kind != "clean") for kind in KINDS}
  measured = _Measured(item, _problem(item, network, examples["augmented"]), examples)
  blocks = {
    kind: [
      parts.get(f"{kind}:{start}", functools.partial(measured.block, one, start))
      for start in range(0, len(one.rows), BLOCK)
    ]
    for kind, one in tests.items()
  }
  joined = {
    kind: {
      name: np.concatenate([np.asarray(block[name]) for block in some])
      for name in ("effects", "cosines", "test_norms")
    }
    for kind, some in blocks.items()
  }
  norms = np.asarray(blocks["clean"][0]["norms"])
  found = clock.results(settings, _metrics(item, joined, norms), _curves(joined, tests))
  return found, _sheet(item, joined, tests, examples)


def _on_one_device(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def training_pictures(item: Run, *, augmented: bool) -> Pictures:
  """Returns the first pictures of the training split, or what the last epoch made of them.

  Mixing augmentations take their partners among these pictures, in their order in the split.
  """
  trainer, parts, num = item.trainer, item.trainer.parts, item.settings.influence.num_train
  epoch, rows = (trainer.num_steps - 1) // parts.steps_per_epoch, np.arange(num)
  batch = _on_one_device(trainer.feed.batch(rows, epoch=epoch))
  labels = losses.one_hot(batch.labels, parts.num_classes)
  images = batch.images
  if augmented:
    root = keys.root_key(item.settings.seed)

    @jax.jit
    def augment(apply: Any, images: Any, labels: Any) -> Any:
      each, first = (
        keys.example_keys(root, keys.Stream.AUGMENT, batch.ids, epoch=one) for one in (epoch, 0)
      )
      return apply(each, images, labels, epoch, first)

    images, labels = _on_one_device(augment(parts.augment, images, labels))
  smoothing = item.settings.objective.label_smoothing
  return Pictures(images, losses.smooth(labels, label_smoothing=smoothing), rows)


def test_pictures(item: Run, network: Any, *, attacked: bool) -> Pictures:
  """Returns pictures of all classes in turn, right or wrong."""
  split = interactions.split_of(item)
  rows = interactions.in_turn(np.asarray(split.labels), item.settings.influence.num_test)
  chosen = interactions.pictures_of(split, rows)
  images, labels = jnp.asarray(chosen.images), jnp.asarray(chosen.labels)
  if attacked:
    each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, jnp.asarray(split.ids[rows]))
    find = jax.jit(
      lambda network, x, y: attacks.pgd(each, network, x, y, **attacks.PRESETS[ATTACK])
    )
    images = find(network, images, labels)
  return Pictures(images, losses.one_hot(labels, item.dataset.num_classes), rows)


def _problem(item: Run, network: Any, pictures: Pictures) -> Problem:
  params, stats = network.args  # of `Trainer.predictor`

  def predict(params: Any, images: Any) -> Any:
    return network.func(params, stats, images)

  size = item.settings.influence.batch_size
  return Problem(
    predict, losses.cross_entropy, params, pictures.images, pictures.targets, batch_size=size
  )


@dataclasses.dataclass
class _Measured:
  """Solves for blocks of test pictures; what all blocks share is made when the first asks."""

  item: Run
  problem: Problem
  examples: Mapping[str, Pictures]

  def block(self, tests: Pictures, start: int) -> dict[str, Any]:
    """Returns numbers of some test pictures with all training pictures, real ones first."""
    chosen = self.item.settings.influence
    problem, change, solve = self.solver
    images, targets = tests.part(start, start + BLOCK)
    inputs, labels = self.candidates
    own = _gradients(problem, change(images), targets)
    solved = solve(own)
    if not bool(jnp.isfinite(solved).all()):
      raise ValueError(
        f"config.influence.method={chosen.method!r} gave no finite numbers; raise "
        "config.influence.damping, or config.influence.scale of lissa."
      )
    products = _inner_products(problem, jnp.concatenate([solved, own]), inputs, labels)
    effects, plain = jnp.split(products.values, 2)
    if chosen.method != "tracin":
      effects = analysis.removal_effects(effects, num_train=len(self.item.dataset.train))
    norms = jnp.linalg.norm(own, axis=1)
    factors = analysis.factorise(plain, norms, products.norms)
    found = {"effects": effects, "cosines": factors.cosines, "test_norms": norms}
    found["norms"] = products.norms
    return {name: np.asarray(values, np.float64).tolist() for name, values in found.items()}

  @functools.cached_property
  def candidates(self) -> tuple[Any, Any]:
    """Inputs and labels of the training pictures, real ones first."""
    _, change, _ = self.solver
    several = [self.examples[origin] for origin in ORIGINS]
    inputs = jnp.concatenate([change(one.images) for one in several])
    return inputs, jnp.concatenate([one.targets for one in several])

  @functools.cached_property
  def solver(self) -> tuple[Problem, Callable[[Any], Any], Callable[[Any], Any]]:
    """The problem that is solved, what makes its inputs of pictures, and H^-1."""
    chosen, problem = self.item.settings.influence, self.problem
    curvature, change = problem, jnp.asarray
    if chosen.method == "last_layer":
      problem, features = analysis.last_layer(problem)
      curvature, change = problem, jax.jit(features)
    if chosen.method == "ekfac":
      curvature = jax.jit(analysis.fit_ekfac)(problem)
    return problem, change, functools.partial(_solver(chosen, self.item.settings.seed), curvature)


_gradients = jax.jit(analysis.gradients)
_inner_products = jax.jit(analysis.inner_products)


def _solver(chosen: Influence, seed: int) -> Callable[[Any, Any], Any]:
  """Returns what divides vectors by the curvature of a problem, or by one that was fitted."""
  shared = {"damping": chosen.damping, "curvature": chosen.curvature}
  if chosen.method == "tracin":
    return lambda problem, vectors: vectors
  if chosen.method == "ekfac":
    return jax.jit(lambda curvature, v: curvature.solve(v, damping=chosen.damping))
  if chosen.method == "last_layer":
    return jax.jit(functools.partial(analysis.direct, **shared))
  if chosen.method == "cg":
    options = {**shared, "num_steps": chosen.num_steps}
    return jax.jit(functools.partial(analysis.conjugate_gradients, **options))
  options = {**shared, "num_steps": chosen.num_steps, "scale": chosen.scale}
  key = keys.stream_key(keys.root_key(seed), keys.Stream.EVALUATE)
  return jax.jit(functools.partial(analysis.lissa, key, **options))


def _pairs(joined: Mapping[str, Any]) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
  """Yields kind of test picture, origin of training picture, effects and cosines [T, N]."""
  for kind, found in joined.items():
    effects, cosines = (np.split(found[name], 2, axis=1) for name in ("effects", "cosines"))
    for origin, one, other in zip(ORIGINS, effects, cosines, strict=True):
      yield kind, origin, one, other


def _metrics(item: Run, joined: Mapping[str, Any], norms: np.ndarray) -> list[Metric]:
  """Mean sizes over training pictures; intervals over test pictures, or over training ones."""
  confidence, found = item.settings.evaluate.confidence, []
  place: dict[str, Any] = {"dataset": item.dataset.name, "split": item.settings.evaluate.split}
  place |= {"better": "none", "source": item.dataset.source}

  def add(name: str, values: np.ndarray, over: str, unit: str = "") -> None:
    count, mean = len(values), float(values.mean())
    ends: dict[str, Any] = {"low": None, "high": None, "confidence": None, "interval": "none"}
    if count > 1:
      stderr = values.std(ddof=1) / count**0.5
      low, high = metrics.student_interval(mean, stderr, count=count, confidence=confidence)
      ends = {"low": float(low), "high": float(high), "confidence": confidence}
      ends["interval"] = f"student over {over} pictures"
    found.append(Metric(name=name, value=mean, count=count, unit=unit, **ends, **place))

  for kind, origin, effects, cosines in _pairs(joined):
    sizes = _SCALE * np.abs(effects).mean(1)
    add(f"influence_size:{origin}_on_{kind}", sizes, "test", f"nats / {_SCALE:.0e}")
    add(f"influence_cosine:{origin}_on_{kind}", np.abs(cosines).mean(1), "test")
  for origin, own in zip(ORIGINS, np.split(norms, 2), strict=True):
    add(f"influence_norm:{origin}_training", own, "training")
  for kind, one in joined.items():
    add(f"influence_norm:{kind}_test", one["test_norms"], "test")
  return found


def _curves(joined: Mapping[str, Any], tests: Mapping[str, Pictures]) -> dict[str, Any]:
  """Percentiles of all effects, and for each test picture the strongest training pictures."""
  curves: dict[str, Any] = {}
  for kind, origin, effects, _ in _pairs(joined):
    points = np.percentile(effects, PERCENTILES)
    curves[f"influence/{origin} on {kind}"] = [
      {"step": p, "effect": float(value)} for p, value in zip(PERCENTILES, points, strict=True)
    ]
  for kind, found in joined.items():
    rows = []
    for i, effects in enumerate(found["effects"]):
      order = np.argsort(effects)
      ends = {"helpful": order[::-1], "harmful": order}
      row: dict[str, Any] = {"step": i, "row": int(tests[kind].rows[i])}
      for word, places in ends.items():
        for rank, place in enumerate(places[:5]):
          number, origin = int(place) % (len(effects) // 2), int(place) // (len(effects) // 2)
          row |= {f"{word}{rank}": number, f"{word}{rank}_augmented": origin}
          row[f"{word}{rank}_effect"] = float(effects[place])
      rows.append(row)
    curves[f"influence_top/{kind}"] = rows
  return curves


def _sheet(
  item: Run,
  joined: Mapping[str, Any],
  tests: Mapping[str, Pictures],
  examples: Mapping[str, Pictures],
) -> list[tuple[str, np.ndarray]]:
  """Rows: a test picture, a gap, the most helpful training pictures, a gap, the most harmful."""
  num, names = item.settings.influence.num_shown, item.dataset.class_names
  every = np.concatenate([np.asarray(examples[origin].images) for origin in ORIGINS])
  rows = []
  for i in range(min(len(tests["clean"].rows), _SHOWN_TESTS)):
    for kind, one in tests.items():
      order = np.argsort(joined[kind]["effects"][i])
      gap = np.ones_like(every[:1])
      parts = [np.asarray(one.images[i : i + 1]), gap, every[order[::-1][:num]], gap]
      shown = np.concatenate([*parts, every[order[:num]]])
      shown = np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown
      rows.append((f"{names[int(one.targets[i].argmax())]}, {kind}", shown))
  return rows
