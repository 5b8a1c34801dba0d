# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: any network, any labelled pictures, one list of metrics with intervals."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from jax.sharding import Mesh

from mixboost_jax import data, schema
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import (
  collect,
  foreign,
  pieces,
  planning,
  released,
  released_folder,
  sanity,
  scoring,
  store,
  suites,
  summary,
)
from mixboost_jax.evaluate import examples as examples_lib
from mixboost_jax.evaluate.clock import Clock
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.session import Session, open_network
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.results import Results


def evaluate(
  logits_fn: LogitsFn,
  dataset: Any,
  suite: str = "clean",
  *,
  split: str = "test",
  batch_size: int = 500,
  max_examples: int = 0,
  budget: str = "",
  ood_dirs: Sequence[str] = (),
  released_dir: str = "",
  folder: str | os.PathLike | None = None,
  ece_bins: int = 15,
  confidence: float = 0.95,
  mesh: Mesh | None = None,
  name: str = "model",
  should_stop: Callable[[], bool] = lambda: False,
) -> Results:
  """Measures a network and says how sure the numbers are.

  ```python
  from mixboost_jax import evaluate, report
  results = evaluate.evaluate(logits_fn, (images, labels), suite="standard")
  report.write(results, "report.html")
  ```

  Args:
    logits_fn: `images[B, H, W, C] in [0, 1] -> logits[B, K]`, made of JAX operations. It normalises
      its input itself and does not change state.
    dataset: `data.Dataset`, `data.Split`, or (images, labels); images uint8, or float in [0, 1].
    suite: a name in `SUITES`, or words with commas between them ("clean,c:gaussian_noise,pgd").
    split: part of a `Dataset`: "test", "validation" or "train".
    batch_size: examples per compiled call; rounded up to a multiple of the number of devices. It
      changes no metric beyond rounding.
    max_examples: most examples per unit; 0: `suites.DEFAULT_EXAMPLES`, -1: all, as for published
      tables. Every number says how many examples it has.
    budget: time to spend, such as "10min"; sizes are then planned from a short probe instead.
    ood_dirs: folders of pictures, prepared TFDS folders or `.npy` files that are out of
      distribution, for `ood`.
    released_dir: folder of published sets (`CIFAR-10-C`, ..., `imagenet-r`), used instead of
      pictures made here; `c_generated` and the like ask for the latter as well. The word `r`
      (ImageNet-R) is only read from there.
    folder: keeps every finished piece here; called again with the same network and pictures, only
      what is missing is measured.
    ece_bins: bins of the expected calibration error and the reliability diagram, >= 1.
    confidence: level of the intervals, in (0, 1).
    mesh: devices to use; all if None.
    name: what results and reports call the model.
    should_stop: asked between pieces; if it says so, `pieces.Stopped` is raised.

  Raises:
    ValueError: if an argument or what the network returns is not as said here.
  """
  _check(confidence, ece_bins=ece_bins, batch_size=batch_size)
  clock = Clock("evaluate")
  chosen = examples_lib.from_dataset(dataset, split=split)
  session = _session(logits_fn, dataset, chosen, split, batch_size, mesh, ood_dirs)
  examples_lib.check_labels(chosen, session.num_classes)
  large = suites.is_large(session.image_shape)
  asked = suites.expand(suite, large=large, foreign_sets=tuple(session.foreign_sets))
  published = released_folder.open_sets(
    released_dir,
    chosen,
    list(dict.fromkeys(unit.family for unit in asked)),
    num_classes=session.num_classes,
  )
  session = dataclasses.replace(session, released=published)
  units = released.replace_units(asked, published)
  network = store.network_digest(session.scorer.apply_fn, session.variables, session.image_shape)
  kept = store.Store(folder)
  warnings = sanity.flags(session, kept, network, attacked=sanity.needed(units))
  sizes, notes = planning.sizes(
    session,
    units,
    suite,
    max_examples=max_examples,
    budget=budget,
    store=kept,
    network=network,
    spent=clock.seconds,
  )
  columns = pieces.measure(
    session, sizes, kept, network=network, label=name, should_stop=should_stop
  )
  found, curves = collect.everything(
    session, columns, ece_bins=ece_bins, confidence=confidence, large=large
  )
  return clock.results(name, found, curves, flags=(*warnings, *notes))


def _check(confidence: float, **at_least_one: int) -> None:
  if not 0 < confidence < 1:
    raise ValueError(f"evaluate: confidence must be in (0, 1), got {confidence}.")
  for option, value in at_least_one.items():
    if value < 1:
      raise ValueError(f"evaluate: {option} must be >= 1, got {value}.")


def _session(
  logits_fn: LogitsFn,
  dataset: Any,
  chosen: Examples,
  split: str,
  batch_size: int,
  mesh: Mesh | None,
  ood_dirs: Sequence[str],
) -> Session:
  height, width, channels = chosen.images.shape[1:]
  mesh = mesh_lib.create() if mesh is None else mesh
  rounded = -(-min(batch_size, len(chosen)) // mesh.size) * mesh.size
  network = open_network(logits_fn, (rounded, height, width, channels), mesh)
  held_out = None
  if isinstance(dataset, data.Dataset) and dataset.validation is not None and split == "test":
    held_out = examples_lib.from_dataset(dataset, split="validation")
  foreign_sets = foreign.read_sets(
    ood_dirs, image_shape=(height, width, channels), limit=len(chosen)
  )
  return Session(
    network.scorer,
    network.placed,
    chosen,
    foreign_sets,
    held_out,
    programs=network.programs,
  )


def run(
  logits_fn: LogitsFn,
  dataset: Any,
  settings: schema.Settings,
  *,
  mesh: Mesh | None = None,
  folder: str | os.PathLike | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> Results:
  """`evaluate` as the config says; the results carry the config and its hash.

  Args:
    logits_fn: as for `evaluate`.
    dataset: as for `evaluate`.
    settings: of which `evaluate` and `name` are used, and all are recorded.
    mesh: devices to use; all if None.
    folder: as for `evaluate`.
    should_stop: as for `evaluate`.

  Raises:
    ValueError: as for `evaluate`.
  """
  chosen = settings.evaluate
  results = evaluate(
    logits_fn,
    dataset,
    chosen.suite,
    split=chosen.split,
    batch_size=chosen.batch_size,
    max_examples=chosen.max_examples,
    budget=chosen.budget,
    ood_dirs=chosen.ood_dirs,
    released_dir=chosen.released_dir,
    folder=folder,
    ece_bins=chosen.ece_bins,
    confidence=chosen.confidence,
    mesh=mesh,
    name=settings.name,
    should_stop=should_stop,
  )
  return dataclasses.replace(
    results, settings=settings.to_json(), config_hash=settings_lib.config_hash(settings)
  )


def make_monitor(
  dataset: Any, *, split: str, batch_size: int = 500, mesh: Mesh | None = None
) -> Callable[[LogitsFn], dict[str, float]]:
  """Returns a function to watch a network with while it trains.

  Called with a `jax.tree_util.Partial` over the parameters it compiles once, not once per call.

  Args:
    dataset: as for `evaluate`.
    split: part of a `Dataset`.
    batch_size: examples per compiled call.
    mesh: devices to use; all if None.

  Returns:
    `logits_fn -> {"clean_error": in %, "nll": in nats}`.

  Raises:
    ValueError: as for `evaluate`.
  """
  chosen = examples_lib.from_dataset(dataset, split=split)
  mesh = mesh_lib.create() if mesh is None else mesh
  rounded = -(-min(batch_size, len(chosen)) // mesh.size) * mesh.size
  shape = (rounded, *chosen.images.shape[1:])
  shared = scoring.Scorer(scoring.call, batch_size=rounded, mesh=mesh)

  def monitor(logits_fn: LogitsFn) -> dict[str, float]:
    apply_fn, variables = scoring.open_up(logits_fn, shape)
    if apply_fn is scoring.call:
      return summary.headline(shared(variables, chosen))
    scorer = scoring.Scorer(apply_fn, batch_size=rounded, mesh=mesh)
    return summary.headline(scorer(variables, chosen))

  return monitor
