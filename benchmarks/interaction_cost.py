# SPDX-License-Identifier: Apache-2.0
"""Evaluations that an error of J^(m) costs on a trained network: ours and the public protocol.

usage: PYTHONPATH=. python benchmarks/interaction_cost.py RUN_FOLDER [--data_dir DIR] [--out FILE]

Both estimators are repeated with several seeds; the truth is a long run of ours with more contexts.
The root-mean-square error over orders and seeds contains the bias; the variance of the truth itself
is taken off. Counts of evaluations do not depend on the machine. Every part is kept as soon as it
is measured; the same command goes on after a stop.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import trained_run
from paper_protocol import paper_strength

from mixboost_jax import files, interactions
from mixboost_jax.interactions import Strength
from mixboost_jax.runtime import environment
from mixboost_jax.runtime.workdir import Parts

POPULATIONS = {
  "neighbour": interactions.neighbour_population,
  "uniform": interactions.grid_population,
}
TARGETS = {"neighbour": 3.0, "uniform": 5.0}
CHUNK = 256


def plain(result: Strength) -> dict[str, Any]:
  return {
    "relative": result.relative.tolist(),
    "relative_stderr": result.relative_stderr.tolist(),
    "evaluations": result.evaluations,
  }


def error(runs: list[dict[str, Any]], truth: dict[str, Any] | None) -> dict[str, Any]:
  """Standard error of J, and its RMSE against the truth without the share of the truth's error."""
  curves = np.array([run["relative"] for run in runs])
  own = [np.square(run["relative_stderr"]).mean() for run in runs]
  found = {
    "evaluations": float(np.mean([run["evaluations"] for run in runs])),
    "scatter": float(np.sqrt(curves.var(0, ddof=1).mean())),
    "reported_stderr": float(np.sqrt(np.mean(own))),
    "mean_curve": curves.mean(0).tolist(),
    "seeds": len(runs),
  }
  return found | (_against(curves, truth) if truth else {})


def _against(curves: np.ndarray, truth: dict[str, Any]) -> dict[str, Any]:
  noise = np.mean(np.square(truth["relative_stderr"]))
  reference = np.array(truth["relative"])
  squares = np.mean((curves - reference[None]) ** 2, axis=1)
  draws = np.random.default_rng(0).integers(0, len(curves), (2000, len(curves)))
  spread = squares[draws].mean(1) - noise
  bias = curves.mean(0) - reference
  own = curves.var(0, ddof=1) / len(curves) + np.square(truth["relative_stderr"])
  return {
    "rmse": float(np.sqrt(max(squares.mean() - noise, 1e-12))),
    "mean_square_interval_95": [float(q) for q in np.quantile(spread, (0.025, 0.975))],
    "largest_bias_in_standard_errors": float(np.max(np.abs(bias) / np.sqrt(own))),
    "squared_bias_corrected": float(np.mean(bias**2 - own)),
  }


def ratio(theirs: dict[str, Any], ours: list[dict[str, Any]], field: str) -> dict[str, float]:
  """How many times fewer evaluations ours needs for the error of the public protocol.

  Error times the root of the cost is about constant for ours (its bias is small), so every budget
  gives an answer; the one nearest in error needs the least extrapolation.
  """
  nearest = min(ours, key=lambda point: abs(np.log(point[field] / theirs[field])))
  same = nearest["evaluations"] * (nearest[field] / theirs[field]) ** 2
  return {"ours_evaluations": same, "ratio": theirs["evaluations"] / same}


def pooled(
  theirs: list[dict[str, Any]], ours: list[list[dict[str, Any]]], truth: dict[str, Any]
) -> dict[str, Any]:
  """Ratio of mean square error times cost over all budgets of ours, resampled over seeds."""
  reference, noise = np.array(truth["relative"]), np.mean(np.square(truth["relative_stderr"]))

  def losses(runs: list[dict[str, Any]]) -> np.ndarray:
    curves = np.array([run["relative"] for run in runs])
    squares = np.mean((curves - reference[None]) ** 2, axis=1)
    return (squares - noise) * np.mean([run["evaluations"] for run in runs])

  rows, draw = [losses(runs) for runs in (theirs, *ours)], np.random.default_rng(0)
  picks = [row[draw.integers(0, len(row), (5000, len(row)))].mean(1) for row in rows]
  found = picks[0] / np.mean(picks[1:], axis=0)
  return {
    "ratio": float(rows[0].mean() / np.mean([row.mean() for row in rows[1:]])),
    "interval_95": [float(q) for q in np.quantile(found, (0.025, 0.975))],
  }


def compare(parts: Parts, kind: str, games: list[interactions.Game], args: argparse.Namespace):
  population = POPULATIONS[kind](args.grid)
  orders = interactions.orders_of(args.grid**2)
  common: dict[str, Any] = {"orders": orders, "chunk_size": CHUNK}

  def ours(seed: int, num_pairs: int, contexts: int) -> dict[str, Any]:
    key = jax.random.key(seed)
    return plain(
      interactions.estimate_strength(
        key, games, population, num_pairs=num_pairs, num_contexts=contexts, max_contexts=0, **common
      )
    )

  def paper(seed: int) -> dict[str, Any]:
    key = jax.random.key(seed)
    return plain(paper_strength(key, games, population, num_pairs=args.paper_pairs, **common))

  points = []
  theirs = [parts.get(f"{kind} public seed {s}", lambda s=s: paper(s)) for s in range(args.seeds)]
  for contexts, count in args.ours:
    points.append(
      [
        parts.get(
          f"{kind} ours {count} pairs {contexts} contexts seed {s}",
          lambda s=s, count=count, contexts=contexts: ours(s, count, contexts),
        )
        for s in range(args.seeds)
      ]
    )
  truth = None
  if args.truth_pairs:
    truth = parts.get(f"{kind} truth", lambda: ours(2**20, args.truth_pairs, 16))
  peer = error(theirs, truth)
  own = [
    {"contexts": contexts, "pairs_per_picture": count, **error(runs, truth)}
    for (contexts, count), runs in zip(args.ours, points, strict=True)
  ]
  default = [point for point in own if point["contexts"] == 8]
  fields = ["scatter", "reported_stderr"] + (["rmse"] if truth else [])
  return {
    "orders": list(orders),
    "truth": truth or "not run",
    "public_protocol": {"pairs_per_picture": args.paper_pairs, **peer},
    "ours": own,
    "at_equal": {field: ratio(peer, default, field) for field in fields},
    "mean_square_error_times_cost": pooled(theirs, points, truth) if truth else "not run",
    "target": TARGETS[kind],
  }


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("run", type=pathlib.Path)
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--title", default="CIFAR-10 (JPEG)")
  parser.add_argument("--images", type=int, default=2)
  parser.add_argument("--grid", type=int, default=16)
  parser.add_argument("--seeds", type=int, default=6)
  parser.add_argument("--paper_pairs", type=int, default=10)
  parser.add_argument("--our_pairs", type=int, nargs="+", default=(16, 32))
  parser.add_argument("--more_contexts", type=int, nargs="*", default=(), help="also try these")
  parser.add_argument("--truth_pairs", type=int, default=256, help="0: standard errors only")
  parser.add_argument("--kinds", nargs="+", choices=POPULATIONS, default=tuple(POPULATIONS))
  parser.add_argument("--parts", type=pathlib.Path, default=pathlib.Path("interaction_parts.json"))
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("results/benchmarks/interaction_cost.json")
  )
  args = parser.parse_args()
  args.ours = [(8, count) for count in args.our_pairs]
  args.ours += [(contexts, args.our_pairs[0] * 8 // contexts) for contexts in args.more_contexts]
  return args


def main() -> None:
  args = parse()
  trained = trained_run.load(args.run, data_dir=args.data_dir)
  predictor, settings, test = trained.logits_fn, trained.settings, trained.dataset.test
  images = jnp.asarray(test.images[:500], jnp.float32) / 255
  labels = np.asarray(test.labels[:500])
  right = np.flatnonzero(np.asarray(predictor(images)).argmax(1) == labels)[: args.images]
  fill = jnp.asarray(settings.model.mean)
  games = [
    interactions.image_game(predictor, images[k], int(labels[k]), grid=args.grid, fill=fill)
    for k in right
  ]
  parts = Parts(args.parts, identity=[args.run.name, args.grid, right.tolist(), args.paper_pairs])
  report: dict[str, Any] = {
    "command": trained_run.command(),
    "network": f"{settings.model.name}, {args.run.name}, {args.title}",
    "test_pictures": right.tolist(),
    "players": args.grid**2,
    "environment": environment.describe(),
    "method": "errors of J over 13 orders: scatter over seeds, standard error as reported, and "
    "RMSE where a long run of ours with 16 contexts is the truth; evaluations of "
    "the public protocol are 4 x 100 contexts x pairs x orders; ours include the pilot run",
  }
  for kind in args.kinds:
    report[kind] = compare(parts, kind, games, args)
    print(kind, json.dumps(report[kind]["at_equal"]), flush=True)
    files.make_folder(args.out.parent)
    files.write_json(args.out, report)


if __name__ == "__main__":
  main()
