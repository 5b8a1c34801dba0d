# SPDX-License-Identifier: Apache-2.0
"""What the compilers for H100 and TPU v5e make of our programs; no such device is needed.

  pip install -e ".[aot-tpu,aot-cuda]"
  PYTHONPATH=. python benchmarks/compiled_programs.py [--only=REGEX] [--again]

Counts per chip and step of the two-view training steps and of what uses a trained network: bytes
of main memory, kernels, types of convolutions, kernels that only move or convert, gathers and
scatters, exchanges, exchanges with the host, donated state. They stand in for speed until a chip is
at hand. Goes on where it was; cells are kept in results/benchmarks/compiled_programs.json, from
which it also makes scaling.json and scaling.svg: time bound, memory and exchanges of training on 1
to 256 chips. Programs for the latter are compiled on 4 chips (v5e) or 8 (H100) for two
batches per chip; other batches lie on the line through these, and exchanges are reckoned for the
number of chips (`runtime/targets.py`).
"""

import argparse
import datetime
import functools
import json
import pathlib
import re
import time
from typing import Any, NamedTuple

import jax

from configs import base
from mixboost_jax import settings as settings_lib
from mixboost_jax.jobs import compile as compiling
from mixboost_jax.report import charts, svg
from mixboost_jax.runtime import targets

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "results/benchmarks"
CHIPS = {"h100": "h100x8", "v5e": "v5e-4"}
COUNTS = {"h100": (1, 8), "v5e": (1, 4, 16, 64, 256)}
GLOBAL, PER_CHIP = 1024, 128
BATCHES = {"h100": (1024, 128), "v5e": (128, 4)}
"""Per chip, that are compiled."""
NETWORKS = {
  "wrn-40-4": ("cifar10.py", {"model.dropout": 0.0}),
  "resnet-50": ("imagenet.py", {}),
}


class Cell(NamedTuple):
  """One program: a config, what changes in it, which program, for which target."""

  config: str
  changes: dict[str, Any]
  program: str
  target: str


def cells() -> dict[str, Cell]:
  """Returns all cells by name, quick ones first."""
  found = {}
  for chip in CHIPS:
    one = {"h100": "h100", "v5e": "v5e-4"}[chip]
    for words in ("baseline", "boost", "pixmix+boost"):
      changes = {"train.batch_size": 128 * targets.parse(one).count, "model.dropout": 0.0}
      for model in ("wrn-16-4", "wrn-40-4"):
        name = f"{chip}/{model}/train/{words}"
        found[name] = Cell(f"cifar10.py:{words}", {**changes, "model.name": model}, "train", one)
    for words in ("trivial", "randaugment", "autoaugment", "augmix", "pixmix"):
      changes = {"train.batch_size": 128 * targets.parse(one).count}
      found[f"{chip}/augment/{words}"] = Cell(f"cifar10.py:{words}", changes, "augment", one)
    for program, changes in (
      ("evaluate", {"evaluate.batch_size": 2000}),
      ("pgd", {"evaluate.batch_size": 512}),
      ("mi", {"audit.batch_size": 64}),
      ("interactions", {}),
    ):
      changes = {**changes, "model.name": "wrn-16-4", "model.dropout": 0.0}
      found[f"{chip}/wrn-16-4/{program}"] = Cell("cifar10.py:baseline", changes, program, one)
    changes = {"train.batch_size": 512 * targets.parse(one).count}
    found[f"{chip}/speedrun/train/full"] = Cell("speedrun.py:full", changes, "train", one)
    changes = {"train.batch_size": 128 * targets.parse(one).count}
    for words in ("baseline", "boost"):
      name = f"{chip}/resnet-50/train/{words}"
      found[name] = Cell(f"imagenet.py:{words}", changes, "train", one)
  for chip, name in CHIPS.items():
    for model, (config, changes) in NETWORKS.items():
      for batch in BATCHES[chip]:
        changes = {**changes, "train.batch_size": batch * targets.parse(name).count}
        cell = Cell(f"{config}:boost", changes, "train", name)
        found[f"scaling/{chip}/{model}/{batch}"] = cell
  return dict(sorted(found.items(), key=lambda item: ("v5e" in item[0], "scaling" in item[0])))


def resolved(cell: Cell) -> Any:
  """Returns the settings of a cell."""
  config = settings_lib.load(cell.config)
  changes = {"model.compute_dtype": "bfloat16", "runtime.target": cell.target, **cell.changes}
  return settings_lib.resolve(base.override(config, {**changes, "runtime.programs": cell.program}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--only", default="", help="regular expression of the cells to compile")
  parser.add_argument(
    "--again", action="store_true", help="compile cells that are there, too, and keep what was"
  )
  parser.add_argument("--out", type=pathlib.Path, default=FOLDER)
  arguments = parser.parse_args()
  path = arguments.out / "compiled_programs.json"
  found = read(path)
  targets.prepare_host()
  for name, cell in cells().items():
    if not re.search(arguments.only, name) or (name in found and not arguments.again):
      continue
    started = time.perf_counter()
    try:
      described = compiling.describe(resolved(cell), sizes=False)
    except ValueError as error:
      if "not installed" not in str(error):
        raise
      print(f"{name}: {error}")
      continue
    one = {**described["programs"][cell.program], "target": cell.target}
    one["compiled"] = datetime.date.today().isoformat()
    if (before := found.get(name)) and "program" in before:
      one["before"] = {"bytes": before["bytes"], **before["program"]}
    found = {**read(path), name: one}
    write(path, {"jax": jax.__version__, "about": __doc__, "cells": dict(sorted(found.items()))})
    print(f"{name}: {time.perf_counter() - started:.0f} s\n{line(found[name])}", flush=True)
  scale(found, arguments.out)


def read(path: pathlib.Path) -> dict[str, Any]:
  return json.loads(path.read_text())["cells"] if path.exists() else {}


def write(path: pathlib.Path, tree: Any) -> None:
  path.write_text(json.dumps(tree, indent=1) + "\n")


def line(one: dict[str, Any]) -> str:
  """Returns the counts of a cell in one line."""
  if "program" not in one:
    return f"  does not fit: {one['memory']['total'] / 2**30:.1f} GiB"
  program = one["program"]
  exchanged = ", ".join(f"{v['count']} {k}" for k, v in one["collectives"].items()) or "none"
  cycles = f"{program['cycles'] / 1e6:.1f} million cycles, " if program.get("cycles") else ""
  return (
    f"  {one['bytes'] / 1e9:.2f} GB, {one['flops'] / 1e9:.0f} GFLOP, {program['kernels']} kernels "
    f"({program['layout_kernels']} only move {program['layout_bytes'] / 1e9:.3f} GB, "
    f"{program['convert_kernels']} only convert), {program['convolutions']}, "
    f"{cycles}{program['gathers']} gathers, {program['scatters']} scatters, "
    f"exchanges: {exchanged}, host: {program['host_transfers']}, "
    f"{one['memory']['aliased'] / 2**20:.0f} of "
    f"{one['memory']['outputs'] / 2**20:.0f} MiB of results in place, compiled in "
    f"{one['compile_seconds']:.0f} s"
  )


def scale(found: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes the scaling table and its figure from the cells that are there."""
  rows = []
  for chip, counts in COUNTS.items():
    for model in NETWORKS:
      for kind, per_chip in (("global", None), ("per chip", PER_CHIP)):
        some = [
          row(found, chip, model, count, per_chip or GLOBAL // count, kind) for count in counts
        ]
        rows += with_efficiency([one for one in some if one])
  if not rows:
    return
  write(folder / "scaling.json", {
    "about": "Training with two views in bfloat16: least time of a step (arithmetic and memory "
    "overlap, exchanges come on top), memory, exchanges per chip. Predicted, not measured.",
    "assumed_seconds_per_hop": targets.HOP,
    "jax": jax.__version__,
    "rows": rows,
  })  # fmt: skip
  (folder / "scaling.svg").write_text(figure(rows))
  print(f"{len(rows)} rows of scaling.json")


def row(
  found: dict[str, Any], chip: str, model: str, count: int, batch: int, kind: str
) -> dict[str, Any] | None:
  """Returns one row of the table, None if its program was not compiled."""
  points = {size: found.get(f"scaling/{chip}/{model}/{size}") for size in BATCHES[chip]}
  (large, one), (small, other) = points.items()
  if one is None or other is None:
    return None
  head = {"chip": chip, "model": model, "batch": kind, "chips": count, "per_chip": batch}
  target = targets.parse(chip).with_count(count)

  def at(*names: str) -> float:
    high, low = (functools.reduce(lambda tree, name: tree[name], names, c) for c in (one, other))
    return low + (high - low) * (batch - small) / (large - small)

  exchanges = [(name, v["count"], v["bytes"]) for name, v in one["collectives"].items()]
  told = compiling.roofline(
    target, at("flops"), at("bytes"), exchanges, images=batch * count, dtype="bfloat16"
  )
  told.pop("scaling")
  exchanged = sum(size for *_, size in exchanges) if count > 1 else 0
  number = sum(number for _, number, _ in exchanges) if count > 1 else 0
  memory = at("memory", "total")
  return {
    **head,
    "compiled": batch in points,
    "fits": memory <= target.chip.memory,
    "memory": memory,
    "exchanges": number,
    "exchanged_bytes": exchanged,
    **told,
  }


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Adds images/s per chip over that of the smallest number of chips on which a program fits."""
  fitting = [one for one in rows if one["fits"]]
  for one in fitting:
    each = one["images_per_second"] / one["chips"]
    one["efficiency"] = each / (fitting[0]["images_per_second"] / fitting[0]["chips"])
  return rows


def figure(rows: list[dict[str, Any]]) -> str:
  """Draws efficiency over the number of chips."""
  series, legend = [], []
  for chip in COUNTS:
    for model in NETWORKS:
      for kind in ("global", "per chip"):
        some = [
          one for one in rows
          if (one["chip"], one["model"], one["batch"]) == (chip, model, kind) and one["fits"]
        ]  # fmt: skip
        if len(some) < 2:
          continue
        points = tuple((one["chips"].bit_length() - 1.0, one["efficiency"]) for one in some)
        size = f"{GLOBAL} over all chips" if kind == "global" else f"{PER_CHIP} per chip"
        legend.append((f"{model}, {chip}, batch {size}", len(series)))
        series.append(charts.Series(legend[-1][0], points, len(series)))
  chart = charts.lines("efficiency", series, x_label="log2 of chips", from_zero=True)
  heading = "Images/s per chip over those of one chip, predicted from compiled programs"
  return svg.alone(chart, heading, legend)


if __name__ == "__main__":
  main()
