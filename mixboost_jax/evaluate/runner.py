# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: any network, any labelled pictures, one list of metrics with intervals."""

import dataclasses
import datetime
import math
import time
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from mixboost_jax import registry, schema
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import examples as examples_lib
from mixboost_jax.evaluate import scoring, summary
from mixboost_jax.evaluate.suites import SUITES
from mixboost_jax.runtime import environment
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.results import Results


def evaluate(
  logits_fn: LogitsFn,
  dataset: Any,
  suite: str = "clean",
  *,
  split: str = "test",
  batch_size: int = 500,
  ece_bins: int = 15,
  confidence: float = 0.95,
  mesh: Mesh | None = None,
  name: str = "model",
) -> Results:
  """Measures a network and says how sure the numbers are.

  ```python
  from mixboost_jax import evaluate, report
  results = evaluate.evaluate(logits_fn, (images, labels))
  report.write(results, "report.html")
  ```

  Args:
    logits_fn: `images[B, H, W, C] in [0, 1] -> logits[B, K]`, made of JAX operations. It normalises
      its input itself and does not change state.
    dataset: `data.Dataset`, `data.Split`, or (images, labels); images uint8, or float in [0, 1].
    suite: a name in `SUITES`.
    split: part of a `Dataset`: "test", "validation" or "train".
    batch_size: examples per compiled call; rounded up to a multiple of the number of devices. It
      changes no metric beyond rounding.
    ece_bins: bins of the expected calibration error and the reliability diagram, >= 1.
    confidence: level of the intervals, in (0, 1).
    mesh: devices to use; all if None.
    name: what results and reports call the model.

  Raises:
    ValueError: if an argument or what the network returns is not as said here.
  """
  if not 0 < confidence < 1:
    raise ValueError(f"evaluate: confidence must be in (0, 1), got {confidence}.")
  for option, value in {"ece_bins": ece_bins, "batch_size": batch_size}.items():
    if value < 1:
      raise ValueError(f"evaluate: {option} must be >= 1, got {value}.")
  started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
  units = registry.lookup(SUITES, suite, field="evaluate: suite")
  chosen = examples_lib.from_dataset(dataset, split=split)
  mesh = mesh_lib.create() if mesh is None else mesh
  rounded = math.ceil(min(batch_size, len(chosen)) / mesh.size) * mesh.size
  apply_fn, variables = scoring.open_up(logits_fn, (rounded, *chosen.images.shape[1:]))
  scorer = scoring.Scorer(apply_fn, batch_size=rounded, mesh=mesh)
  found, curves = [], {}
  for unit in units:
    pictures = unit.derive(chosen)
    scores = scorer(variables, pictures)
    found += summary.summarise(scores, pictures, ece_bins=ece_bins, confidence=confidence)
    curves[f"reliability/{pictures.dataset}"] = summary.reliability(scores, num_bins=ece_bins)
  return Results(
    name=name,
    settings={},
    config_hash="",
    environment=environment.describe(),
    command="",
    started=started.isoformat(timespec="seconds"),
    seconds={"evaluate": time.perf_counter() - clock},
    metrics=tuple(found),
    curves=curves,
    samples={},
  )


def run(
  logits_fn: LogitsFn, dataset: Any, settings: schema.Settings, *, mesh: Mesh | None = None
) -> Results:
  """`evaluate` as the config says; the results carry the config and its hash.

  Args:
    logits_fn: as for `evaluate`.
    dataset: as for `evaluate`.
    settings: of which `evaluate` and `name` are used, and all are recorded.
    mesh: devices to use; all if None.

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
    ece_bins=chosen.ece_bins,
    confidence=chosen.confidence,
    mesh=mesh,
    name=settings.name,
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
  rounded = math.ceil(min(batch_size, len(chosen)) / mesh.size) * mesh.size
  shape = (rounded, *chosen.images.shape[1:])
  shared = scoring.Scorer(scoring.call, batch_size=rounded, mesh=mesh)

  def monitor(logits_fn: LogitsFn) -> dict[str, float]:
    apply_fn, variables = scoring.open_up(logits_fn, shape)
    if apply_fn is scoring.call:
      return summary.headline(shared(variables, chosen))
    scorer = scoring.Scorer(apply_fn, batch_size=rounded, mesh=mesh)
    return summary.headline(scorer(variables, chosen))

  return monitor
