# SPDX-License-Identifier: Apache-2.0
"""`--job=evaluate`."""

import dataclasses

import jax

from mixboost_jax import evaluate, files, report
from mixboost_jax.array_types import LogitsFn
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
  curves |= _write_gallery(item, place, predictor, measured)
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


def _write_gallery(
  item: Run, place: workdir.Workdir, predictor: LogitsFn, measured: results.Results
) -> dict[str, list[dict[str, float]]]:
  """Writes the pictures to look at beside the samples of training; returns what is said of them.

  Attacked ones are among them if the suite asked for attacks.
  """
  options, num = item.settings.evaluate, item.settings.report.num_samples
  if not num or jax.process_count() > 1:
    return {}
  pictures, curves = evaluate.gallery(
    predictor,
    item.dataset,
    split=options.split,
    num=num,
    batch_size=options.batch_size,
    mesh=item.mesh,
    attacked=any(name.startswith("attack/") for name in measured.curves),
  )
  for kind in ("mistakes", "adversarial"):
    (place.samples / f"{kind}.png").unlink(missing_ok=True)  # of an earlier network
  for kind, images in pictures.items():
    _, height, width, _ = images.shape
    files.write_strip(place.samples / f"{kind}.png", images, height=96 * max(1, height // width))
  return curves
