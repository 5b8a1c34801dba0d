# SPDX-License-Identifier: Apache-2.0
"""What a given error of the curve J^(m) costs: our estimator against the public protocol.

usage: PYTHONPATH=. python benchmarks/interactions.py [--full | --smoke] [--seeds 6] [--out FILE]

A small CNN is trained on procedural pictures, J^(m) of a few of them is known from a long run, and
both estimators are repeated with many seeds at several budgets. The root-mean-square error over
orders and seeds (bias included) against evaluations and seconds gives the ratios at equal error.
Further parts: what each ingredient contributes, shared contexts for uniform pairs, and masked
forwards per second against the same network in PyTorch where torch can be imported.

This is the whole comparison in one command, without data. Its parts on trained CIFAR-10 networks:
`interaction_cost.py` (evaluations at equal error), `interaction_rate.py` (forwards per second of a
WRN-10-1 and of the same network in PyTorch, run in turns), `interaction_memory.py` (ResNet-50 at
224 px), `interaction_agreement.py` (shapiq), `interaction_models.py` (curves of many runs).
"""

import argparse
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import trained_run
from grating_network import Params, apply, disagreement, pictures, torch_forward, train
from paper_protocol import paper_strength
from shared_contexts import multi_order_sets

from mixboost_jax import files, interactions
from mixboost_jax.interactions import PairPopulation, Strength
from mixboost_jax.runtime import environment


def measure(
  run: Callable[[jax.Array], Strength], truth: np.ndarray, *, seeds: int
) -> dict[str, Any]:
  """RMSE of J over orders and seeds, its bias part, cost, and the errors the estimator reports."""
  run(jax.random.key(10_000))  # compile
  started = time.perf_counter()
  results = [run(jax.random.key(seed)) for seed in range(seeds)]
  seconds = (time.perf_counter() - started) / seeds
  curves = [result.relative for result in results]
  errors = np.array([np.mean((curve - truth) ** 2) for curve in curves])
  claimed = np.sqrt(np.mean([np.mean(result.relative_stderr**2) for result in results]))
  return {
    "evaluations": int(np.mean([result.evaluations for result in results])),
    "seconds": seconds,
    "rmse": float(np.sqrt(errors.mean())),
    "rmse_low": float(np.sqrt(np.quantile(_resampled(errors), 0.025))),
    "rmse_high": float(np.sqrt(np.quantile(_resampled(errors), 0.975))),
    "bias": float(np.sqrt(np.mean((np.mean(curves, axis=0) - truth) ** 2))),
    "reported_stderr": float(claimed),
    "seeds": seeds,
  }


def _resampled(values: np.ndarray) -> np.ndarray:
  draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
  return values[draws].mean(1)


def cost_at(points: list[dict[str, Any]], target: float, *, cost: str) -> float:
  """Cost of an error, by log-log interpolation; beyond the ends error falls with 1/sqrt(cost)."""
  costs = np.log([point[cost] for point in points])
  errors = np.log([point["rmse"] for point in points])
  order = np.argsort(-errors)
  costs, errors, goal = costs[order], errors[order], np.log(target)
  if goal >= errors[0]:
    return float(np.exp(costs[0] - 2 * (goal - errors[0])))
  if goal <= errors[-1]:
    return float(np.exp(costs[-1] + 2 * (errors[-1] - goal)))
  return float(np.exp(np.interp(-goal, -errors, costs)))


def compare(
  games: list[interactions.Game],
  population: PairPopulation,
  orders: tuple[int, ...],
  args: argparse.Namespace,
) -> dict[str, Any]:
  """Both estimators at several budgets, and ours without each ingredient."""
  common = {"orders": orders, "chunk_size": args.chunk_size}
  reference = interactions.estimate_strength(
    jax.random.key(2**20),
    games,
    population,
    num_pairs=args.reference_pairs,
    num_contexts=32,
    max_contexts=0,
    **common,
  )
  truth = reference.relative

  def ours(num_pairs: int, **options: Any) -> dict[str, Any]:
    def run(key: jax.Array) -> Strength:
      return interactions.estimate_strength(
        key, games, population, num_pairs=num_pairs, max_contexts=0, **common, **options
      )

    return measure(run, truth, seeds=args.seeds)

  def paper(num_pairs: int) -> dict[str, Any]:
    def run(key: jax.Array) -> Strength:
      return paper_strength(key, games, population, num_pairs=num_pairs, **common)

    return measure(run, truth, seeds=args.seeds)

  theirs = [paper(count) for count in args.paper_pairs]
  points = [ours(count) for count in args.our_pairs]
  middle = args.our_pairs[len(args.our_pairs) // 2]
  ablations = {
    "4 contexts": ours(2 * middle, num_contexts=4),
    "16 contexts": ours(middle // 2, num_contexts=16),
    "plain |mean|": ours(middle, debias="none"),
    "half-sample correction": ours(middle, debias="half"),
    "no pilot": ours(middle, pilot_pairs=0),
    "balanced contexts": ours(middle, block=2),
  }
  for point in theirs:
    for cost in ("evaluations", "seconds"):
      same = cost_at(points, point["rmse"], cost=cost)
      point[f"{cost}_ratio_at_equal_error"] = point[cost] / same
  return {
    "orders": list(orders),
    "truth": truth.tolist(),
    "truth_stderr": reference.relative_stderr.tolist(),
    "reference_evaluations": reference.evaluations,
    "public_protocol": theirs,
    "ours": points,
    "ours_changed": ablations,
  }


def shared_contexts(
  game: interactions.Game, orders: tuple[int, ...], args: argparse.Namespace
) -> dict[str, Any]:
  """Variance times cost of the mean |I| of uniform pairs, relative to independent pairs."""
  inner = tuple(order for order in orders if 0 < order < game.num_players - 2)[1::4]
  base: np.ndarray | None = None
  result = {}
  for size in (2, 4, 8, 16):
    pairs_per_set = size * (size - 1) // 2
    num_sets = max(8, args.shared_pairs // pairs_per_set)
    draw = jax.random.split(jax.random.key(size), num_sets)
    sets = jax.vmap(lambda k, s=size: jax.random.permutation(k, game.num_players)[:s])(draw)
    common = {"orders": inner, "num_contexts": 8, "chunk_size": args.chunk_size}
    key = jax.random.key(1)
    if size == 2:
      found = interactions.multi_order(key, game, pairs=sets, **common)
    else:
      found = multi_order_sets(key, game, sets=sets, **common)
    per_set = np.asarray(found.absolute()).reshape(len(inner), num_sets, pairs_per_set).mean(2)
    loss = per_set.var(1, ddof=1) / num_sets * found.evaluations
    base = loss if base is None else base
    result[f"k={size}"] = {
      "evaluations_per_pair_and_context": found.evaluations
      / (num_sets * pairs_per_set * len(inner) * 8),
      "variance_times_cost_gain": (base / loss).tolist(),
      "sets": num_sets,
    }
  return {"orders": list(inner), "sizes": result}


def forwards_per_second(params: Params, game: interactions.Game, size: int) -> dict[str, Any]:
  """Masked forwards per second of one call of `multi_order`, and of the same network in PyTorch."""
  pairs, num_contexts = np.array([[0, 1], [5, 9], [17, 40], [20, 21]]), 64
  options = {"orders": (6, 12, 24), "pairs": pairs, "num_contexts": num_contexts}
  jax.block_until_ready(interactions.multi_order(jax.random.key(0), game, **options).differences)
  theirs = torch_forward(params, size, num_rows=256)
  gap = None if theirs is None else disagreement(params, theirs[1], size)
  ours_rate, torch_rate = [], []
  for repeat in range(5):  # interleaved, so that slow spells hit both
    started = time.perf_counter()
    found = interactions.multi_order(jax.random.key(repeat), game, **options)
    jax.block_until_ready(found.differences)
    ours_rate.append(found.evaluations / (time.perf_counter() - started))
    if theirs is not None:
      started = time.perf_counter()
      for _ in range(12):
        theirs[0]()
      torch_rate.append(12 * 256 / (time.perf_counter() - started))
  result: dict[str, Any] = {"jax": float(np.median(ours_rate))}
  if torch_rate:
    result["torch_channels_last"] = float(np.median(torch_rate))
    result["largest_difference_of_logits"] = gap
    result["ratio"] = result["jax"] / result["torch_channels_last"]
  else:
    result["torch_channels_last"] = "not run: torch cannot be imported"
  return result


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--full", action="store_true", help="32x32 pixels, 256 players, long runs")
  parser.add_argument("--smoke", action="store_true", help="every part once, in about a minute")
  parser.add_argument("--seeds", type=int, default=6)
  parser.add_argument("--images", type=int, default=2)
  parser.add_argument("--chunk_size", type=int, default=1024)
  parser.add_argument("--out", default="results/benchmarks/interactions.json", type=pathlib.Path)
  args = parser.parse_args()
  args.size, args.widths, args.steps = (
    (32, (16, 32, 32), 1500) if args.full else (16, (8, 16, 16), 800)
  )
  args.paper_pairs = (20, 60, 200) if args.full else (8, 24)
  args.our_pairs = (32, 96, 288) if args.full else (16, 32, 64)
  args.reference_pairs = 8000 if args.full else 800
  args.shared_pairs = 4000 if args.full else 480
  if args.smoke:
    args.steps, args.seeds, args.images = 100, 2, 1
    args.paper_pairs, args.our_pairs, args.reference_pairs, args.shared_pairs = (4,), (16,), 16, 30
  return args


def main() -> None:
  args = parse()
  started = time.perf_counter()
  params, accuracy = train(args.size, args.widths, args.steps)
  network = jax.tree_util.Partial(apply, params)
  rng = np.random.default_rng(7)
  images, labels = pictures(rng, 200, args.size)
  right = np.flatnonzero(np.asarray(apply(params, jnp.asarray(images))).argmax(1) == labels)
  grid = args.size // 2
  games = [
    interactions.image_game(network, jnp.asarray(images[k]), int(labels[k]), grid=grid, fill=0.5)
    for k in right[: args.images]
  ]
  orders = interactions.orders_of(grid * grid)
  populations = {
    "neighbour": interactions.neighbour_population(grid),
    "uniform": interactions.grid_population(grid),
  }
  report: dict[str, Any] = {
    "accuracy": accuracy,
    "players": grid * grid,
    "images": len(games),
    "full": args.full,
    "command": trained_run.command(),
    "environment": environment.describe(),
  }
  for name, population in populations.items():
    report[name] = compare(games, population, orders, args)
    for point in report[name]["public_protocol"]:
      print(name, "ratio at equal error:", point["evaluations_ratio_at_equal_error"], flush=True)
  report["shared_contexts_uniform_pairs"] = shared_contexts(games[0], orders, args)
  report["masked_forwards_per_second"] = forwards_per_second(params, games[0], args.size)
  report["seconds"] = time.perf_counter() - started
  files.make_folder(args.out.parent)
  files.write_json(args.out, report)
  print(f"wrote {args.out}")


if __name__ == "__main__":
  main()
