# SPDX-License-Identifier: Apache-2.0
"""What a given error of the curve J^(m) costs: our estimator against the public protocol.

usage: python benchmarks/interactions.py [--full] [--seeds 8] [--out results/benchmarks/...json]

A small CNN is trained on procedural pictures, J^(m) of a few of them is known from a long run, and
both estimators are repeated with many seeds at several budgets. The root-mean-square error over
orders and seeds (bias included) against evaluations gives the ratio at equal error. Further parts:
what each ingredient contributes, shared contexts for uniform pairs, and masked forwards per second
against the same network in PyTorch where torch can be imported.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixboost_jax import interactions
from mixboost_jax.interactions import PairPopulation, Strength

Params = list[tuple[jax.Array, jax.Array]]
STRIDES = (2, 2, 2)


def pictures(rng: np.random.Generator, num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Ten classes: a grating of one of five angles inside a disc or a square, over clutter."""
  labels = rng.integers(0, 10, num)
  rows, columns = np.mgrid[:size, :size] / size - 0.5
  images = np.empty((num, size, size, 3), np.float32)
  for k, label in enumerate(labels):
    y, x = rng.uniform(-0.15, 0.15, 2)
    radius = rng.uniform(0.25, 0.35)
    distance = np.stack([np.abs(rows - y), np.abs(columns - x)])
    inside = (distance.max(0) if label >= 5 else np.hypot(*distance)) < radius
    angle = np.pi * (label % 5) / 5
    wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns) * 30 + rng.uniform(0, 6))
    colour = rng.uniform(0.3, 0.7, (2, 3))
    clutter = np.kron(rng.normal(0, 0.12, (4, 4, 3)), np.ones((size // 4, size // 4, 1)))
    inner = colour[0] + 0.25 * wave[..., None] * rng.uniform(0.5, 1, 3)
    images[k] = np.where(inside[..., None], inner, colour[1] + clutter)
  noise = rng.normal(0, 0.05, images.shape)
  return np.clip(images + noise, 0, 1).astype(np.float32), labels


def init(key: jax.Array, widths: Sequence[int]) -> Params:
  params = []
  for layer, (fan_in, fan_out) in enumerate(zip((3, *widths), (*widths, 10), strict=True)):
    size = 1 if layer == len(widths) else 3
    scale = (2 / (size * size * fan_in)) ** 0.5
    kernel = scale * jax.random.normal(
      jax.random.fold_in(key, layer), (size, size, fan_in, fan_out)
    )
    params.append((kernel, jnp.zeros(fan_out)))
  return params


def apply(params: Params, images: jax.Array) -> jax.Array:
  x = (images - 0.5) * 4
  for (kernel, bias), stride in zip(params[:-1], STRIDES, strict=True):
    x = jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + bias[None, None, None])
  kernel, bias = params[-1]
  return x.mean((1, 2)) @ kernel[0, 0] + bias[None]


def train(size: int, widths: Sequence[int], num_steps: int) -> tuple[Params, float]:
  rng = np.random.default_rng(0)
  params = init(jax.random.key(0), widths)
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))
  state = optimizer.init(params)

  @jax.jit
  def step(params: Params, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Params, Any]:
    def loss(p: Params) -> jax.Array:
      logits = apply(p, images)
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state  # pyright: ignore[reportReturnType]

  images, labels = pictures(rng, 4000, size)
  for _ in range(num_steps):
    rows = rng.integers(0, len(images), 128)
    params, state = step(params, state, jnp.asarray(images[rows]), jnp.asarray(labels[rows]))
  images, labels = pictures(rng, 500, size)
  return params, float((np.asarray(apply(params, jnp.asarray(images))).argmax(1) == labels).mean())


def rmse(curves: Sequence[np.ndarray], truth: np.ndarray) -> float:
  return float(np.sqrt(np.mean((np.array(curves) - truth[None]) ** 2)))


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
    **common,
  )
  truth = reference.relative

  def ours(num_pairs: int, **options: Any) -> dict[str, Any]:
    def run(key: jax.Array) -> Strength:
      return interactions.estimate_strength(
        key, games, population, num_pairs=num_pairs, **common, **options
      )

    return measure(run, truth, seeds=args.seeds)

  def paper(num_pairs: int) -> dict[str, Any]:
    def run(key: jax.Array) -> Strength:
      return interactions.paper_strength(key, games, population, num_pairs=num_pairs, **common)

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
      found = interactions.multi_order_sets(key, game, sets=sets, **common)
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
  theirs = _torch_forward(params, size, num_rows=256)
  gap = None if theirs is None else _disagreement(params, theirs[1], size)
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


def _disagreement(params: Params, network: Callable[[np.ndarray], np.ndarray], size: int) -> float:
  images, _ = pictures(np.random.default_rng(3), 8, size)
  return float(np.abs(network(images) - np.asarray(apply(params, jnp.asarray(images)))).max())


def _torch_forward(
  params: Params, size: int, *, num_rows: int
) -> tuple[Callable[[], Any], Callable[[np.ndarray], np.ndarray]] | None:
  """One batch of random masks, masked pictures and logits in PyTorch; and the network itself."""
  try:
    import torch
  except ImportError:
    return None
  layers = [
    (torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1)), torch.tensor(np.asarray(bias)))
    for kernel, bias in params
  ]
  picture = torch.rand(1, 3, size, size)
  grid = size // 2

  @torch.no_grad()
  def network(images: Any) -> Any:
    x = (images - 0.5) * 4
    x = x.contiguous(memory_format=torch.channels_last)
    for (kernel, bias), stride in zip(layers[:-1], STRIDES, strict=True):
      # "SAME" at stride 2 pads the end only.
      x = torch.nn.functional.pad(x, (0, 1, 0, 1))
      x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, stride=stride))
    kernel, bias = layers[-1]
    return x.mean((2, 3)) @ kernel[:, :, 0, 0].T + bias

  @torch.no_grad()
  def forward() -> Any:
    mask = (torch.rand(num_rows, 1, grid, grid) < 0.5).float()
    mask = torch.nn.functional.interpolate(mask, size=size, mode="nearest")
    return network(picture * mask + 0.5 * (1 - mask))

  forward()
  return forward, lambda x: network(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--full", action="store_true", help="32x32 pixels, 256 players, long runs")
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
    "jax": jax.__version__,
    "device": jax.devices()[0].device_kind,
  }
  for name, population in populations.items():
    report[name] = compare(games, population, orders, args)
    for point in report[name]["public_protocol"]:
      print(name, "ratio at equal error:", point["evaluations_ratio_at_equal_error"], flush=True)
  report["shared_contexts_uniform_pairs"] = shared_contexts(games[0], orders, args)
  report["masked_forwards_per_second"] = forwards_per_second(params, games[0], args.size)
  report["seconds"] = time.perf_counter() - started
  args.out.parent.mkdir(parents=True, exist_ok=True)
  temporary = args.out.with_suffix(".tmp")
  temporary.write_text(json.dumps(report, indent=1) + "\n")
  temporary.replace(args.out)
  print(f"wrote {args.out}")


if __name__ == "__main__":
  main()
