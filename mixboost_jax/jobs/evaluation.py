# SPDX-License-Identifier: Apache-2.0
"""`--job=evaluate`."""

import dataclasses

from mixboost_jax import evaluate, report
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import interrupt, log, results, workdir, writers
from mixboost_jax.runtime.checkpoint import Restored


def run(
  item: Run,
  place: workdir.Workdir,
  trained: Restored,
  *,
  command: str,
  stop: interrupt.StopRequest,
) -> None:
  """Measures the trained network and writes `results.json`."""
  predictor = item.trainer.predictor(trained.state)
  measured = evaluate.run(
    predictor,
    item.dataset,
    item.settings,
    mesh=item.mesh,
    folder=place.path / "evaluation",
    should_stop=stop.agreed,
  )
  records = writers.read(place.metrics)
  curves = {
    name: points
    for name in ("train", "validation", "test")
    if (points := writers.curve(records, f"{name}/"))
  }
  seconds = {"train": float(trained.metadata.get("seconds", 0.0)), **measured.seconds}
  strips = {
    kind: str((place.samples / f"{kind}.png").relative_to(place.path))
    for kind in results.SAMPLE_KINDS
    if (place.samples / f"{kind}.png").exists()
  }
  if not log.is_primary():
    return
  results.write(
    place.results,
    dataclasses.replace(
      measured,
      command=command,
      seconds=seconds,
      curves={**curves, **measured.curves},
      samples=strips,
    ),
  )
  if (table := report.robustness_table(place.results)) is not None:
    log.info(table)
  log.info(f"{item.settings.name}: {measured.headline()}; wrote {place.results}")
