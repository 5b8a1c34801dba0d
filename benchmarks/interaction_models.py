# SPDX-License-Identifier: Apache-2.0
"""J^(m) of many trained runs, the r1 sweep, and M against measured errors: files and figures.

usage: PYTHONPATH=. python benchmarks/interaction_models.py RUNS_FOLDER [--data_dir DIR]
         [--out results/interactions] [--images 10] [--pairs 32]

Every run in the folder is measured on the same terms and kept as OUT/NAME.json, a results file with
the run's errors beside its interactions; a run that has one already is not measured again. From the
files come OUT/summary.json and OUT/strength_boost.svg. Run folders are only read; all figures are
drawn by `python -m mixboost_jax.report OUT/*.json --figures=FOLDER`.
"""

import argparse
import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
import trained_run

from mixboost_jax import interactions, metrics
from mixboost_jax.files import make_folder, write_json, write_text
from mixboost_jax.jobs import interactions as job
from mixboost_jax.report import svg
from mixboost_jax.report.groups import RESULTS_FILE, group, load
from mixboost_jax.report.interactions import (
  ERRORS,
  Measured,
  collect,
  measured,
  sweep,
  without_boost,
)
from mixboost_jax.runtime import results
from mixboost_jax.runtime.workdir import Parts

BOOSTED = ("baseline", "boost", "pixmix", "pixmix_boost")
"""The runs of the figure: baseline and PixMix, without and with the boost loss at r1 = 0.7."""


def measure(folder: pathlib.Path, args: argparse.Namespace) -> results.Results:
  """Measures one run and joins its interactions to its errors."""
  changes = {"interactions": {"num_images": args.images, "pairs_per_image": args.pairs}}
  trained = trained_run.load(folder, data_dir=args.data_dir, changes=changes)
  found = job.measure(trained.run, trained.logits_fn, parts=Parts(None))
  known = results.read(folder / RESULTS_FILE)
  tree = trained.settings.to_json()
  tree["data"]["dir"] = ""  # where the data lie here says nothing about the run
  errors = tuple(metric for metric in known.metrics if metric.name in ERRORS)
  return dataclasses.replace(
    found,
    settings=tree,
    command=trained_run.command(),
    metrics=(*errors, *found.metrics),
  )


def correlations(runs: list[Measured]) -> dict[str, Any]:
  """Returns r of M with every error, and the search for (a, b, c), with permutation p-values."""
  import jax

  names = set.intersection(*(set(run.errors) for run in runs)) if runs else set()
  if len(runs) < 4 or not names:
    return {"not_run": f"needs at least 4 runs with errors, got {len(runs)}"}
  errors = {name: [run.errors[name] for run in runs] for name in sorted(names)}
  proxies = [run.proxy for run in runs]
  fixed = {}
  for name, column in errors.items():
    r, p_value = metrics.permutation_p(proxies, column)
    fixed[name] = {"r": r, "p_value": p_value}
  found = interactions.search(
    jax.random.key(0),
    np.array([[row["relative"] for row in run.rows] for run in runs]),
    errors,
    orders=[int(row["step"]) for row in runs[0].rows],
    num_players=int(runs[0].settings["interactions"]["grid"]) ** 2,
  )
  best = {key: value for key, value in found.to_json().items() if key != "scores"}
  return {"models": len(runs), "M(0.2, 0.2, 0.8)": fixed, "searched": best}


def long_rope(runs: list[Measured]) -> dict[str, Any]:
  """Whether the boost lowers J of high orders and raises that of middle ones, as the paper has it.

  Paper: Liu et al. (MixBoost), Fig. 2: J falls for orders above r1 n and rises for 0.2 n to 0.8 n.
  """

  def parts(run: Measured) -> dict[str, float]:
    table = np.array([[row["ratio"], row["relative"]] for row in run.rows])
    ratio, level = table.T
    chosen = {"low": ratio <= 0.2, "middle": (ratio > 0.2) & (ratio < 0.8), "high": ratio >= 0.8}
    return {name: float(level[rows].mean()) for name, rows in chosen.items()}

  pairs = {
    run.label: {"boost": parts(run), "without": parts(plain)}
    for run in runs
    if np.isfinite(run.keep_rate) and (plain := without_boost(run, runs)) is not None
  }
  changes = {
    name: [pair["boost"][name] - pair["without"][name] for pair in pairs.values()]
    for name in ("low", "middle", "high")
  }
  sentence = ", ".join(
    f"mean J of {name} orders rises in {sum(change > 0 for change in found)} of {len(found)}"
    for name, found in changes.items()
  )
  appears = bool(pairs) and min(changes["middle"]) > 0 and max(changes["high"]) < 0
  verdict = "appears in every pair" if appears else "does not appear as the paper draws it"
  return {
    "pairs": pairs,
    "mean_change": {name: float(np.mean(found)) for name, found in changes.items() if found},
    "conclusion": f"With the boost, {sentence} pairs: the long-rope effect (middle up, high down) "
    f"{verdict}. Each curve is of few pictures, so single pairs are uncertain.",
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("runs", type=pathlib.Path)
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--only", nargs="*", default=(), help="names of runs; all if not given")
  parser.add_argument("--images", type=int, default=10)
  parser.add_argument("--pairs", type=int, default=32)
  parser.add_argument("--title", default="CIFAR-10 (JPEG), WRN-10-1, 3 epochs")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/interactions"))
  args = parser.parse_args()
  make_folder(args.out)
  files = []
  for source in sorted(args.runs.glob(f"*/{RESULTS_FILE}")):
    name, target = source.parent.name, args.out / f"{source.parent.name}.json"
    if args.only and name not in args.only:
      continue
    if not target.exists():
      started = time.perf_counter()
      results.write(target, measure(source.parent, args))
      print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    files.append(target)
  groups = group(load([str(file) for file in files]))
  runs = measured(groups)
  if chosen := [str(file) for file in files if file.stem in BOOSTED]:
    figure = collect(group(load(chosen)))[0]
    heading = f"{args.title}: {figure.title}"
    write_text(args.out / "strength_boost.svg", svg.alone(figure.chart, heading, figure.legend))
  summary = {
    "command": trained_run.command(),
    "title": args.title,
    "interval": "95 %, Student t over pictures",
    "runs": {run.label: run.to_json() for run in runs},
    "sweep_of_keep_rate": {f"{run.keep_rate:g}": run.label for run in sweep(runs)},
    "long_rope": long_rope(runs),
    "correlations": correlations(runs),
  }
  write_json(args.out / "summary.json", summary)
  print(f"wrote {args.out}")


if __name__ == "__main__":
  main()
