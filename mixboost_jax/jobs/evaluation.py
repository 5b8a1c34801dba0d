# SPDX-License-Identifier: Apache-2.0
"""`--job=evaluate`."""

import dataclasses

from mixboost_jax import evaluate, train
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import interrupt, log, results, workdir, writers
from mixboost_jax.runtime.checkpoint import Restored


def run(item: Run, place: workdir.Workdir, trained: Restored, *, command: str) -> None:
  """Measures the trained network and writes `results.json`."""
  predictor = item.trainer.predictor(trained.state)
  with interrupt.StopRequest() as stop:
    try:
      measured = evaluate.run(
        predictor,
        item.dataset,
        item.settings,
        mesh=item.mesh,
        folder=place.path / "evaluation",
        should_stop=stop.agreed,
      )
    except evaluate.Stopped:
      raise train.Preempted(int(trained.metadata.get("step", item.trainer.num_steps))) from None
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
  log.info(f"{item.settings.name}: wrote {place.results}")
