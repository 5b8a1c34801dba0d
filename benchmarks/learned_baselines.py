# SPDX-License-Identifier: Apache-2.0
"""Baseline values learned on functions whose truth is known, at the settings of the paper.

usage: PYTHONPATH=. python benchmarks/learned_baselines.py [--functions 12]

Paper: Ren et al. 2021, arXiv:2105.10719, Table 2: accuracy over features, L_Shapley from 0, 0.5, 1:
98.06, 98.70, 98.70 %; L_marginal: 98.06, 98.14, 98.14 %, on its 100 functions. Here: random
functions of the same family (not its files), and the four that its slides print. F3 is taken with a
sum inside its sigmoid: as printed, its stated truth is wrong (see `functions.PAPER_FUNCTIONS`).
"""

import argparse
import pathlib
import shlex
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import interactions
from mixboost_jax.interactions import baselines, functions
from mixboost_jax.runtime import atomic, environment

STARTS = (0.0, 0.5, 1.0)
PAPER = {"shapley": (98.06, 98.70, 98.70), "marginal": (98.06, 98.14, 98.14)}


def learn(function: functions.SyntheticFunction, loss: str, args: argparse.Namespace) -> np.ndarray:
  """Returns which features end on the true side, for every start."""
  size = function.num_inputs
  inputs = np.random.default_rng(0).permutation(functions.binary_inputs(size))[: args.inputs]

  @jax.jit
  def run(start: jax.Array) -> jax.Array:
    return interactions.learn_baseline(
      jax.random.key(0),
      function,
      jnp.asarray(inputs, jnp.float32),
      jnp.full(size, start),
      low=jnp.zeros(size),
      high=jnp.ones(size),
      loss=loss,
      num_contexts=args.contexts,
      ).baseline

  truth = jnp.asarray(function.truth)
  found = [run(jnp.float32(start)) for start in STARTS]
  return np.array([float(baselines.accuracy(one, truth)) * size for one in found])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--functions", type=int, default=12)
  parser.add_argument("--inputs", type=int, default=64)
  parser.add_argument("--contexts", type=int, default=100)
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("results/benchmarks/learned_baselines.json")
  )
  args = parser.parse_args()
  started = time.perf_counter()
  random = [functions.random_function(jax.random.key(seed)) for seed in range(args.functions)]
  sets = {"random": random, "printed": list(functions.PAPER_FUNCTIONS.values())}
  report: dict[str, Any] = {
    "command": shlex.join(["python", *sys.argv]),
    "setting": "gradient descent, learning rate 0.01, 300 steps, clamped to [0, 1]",
    "inputs_per_function": args.inputs,
    "contexts_per_order": args.contexts,
    "starts": STARTS,
    "paper_percent": PAPER,
    "environment": environment.describe(),
  }
  for name, some in sets.items():
    features = sum(function.num_inputs for function in some)
    report[name] = {"functions": len(some), "features": features}
    for loss in PAPER:
      right = np.sum([learn(function, loss, args) for function in some], axis=0)
      low, high = _wilson(right, features)
      report[name][loss] = {
        "percent": (100 * right / features).tolist(),
        "low": (100 * low).tolist(),
        "high": (100 * high).tolist(),
      }
      print(name, loss, report[name][loss], f"{time.perf_counter() - started:.0f} s", flush=True)
      report["seconds"] = time.perf_counter() - started
      atomic.make_folder(args.out.parent)
      atomic.write_json(args.out, report)


def _wilson(right: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """95 % interval of a fraction; features of one function are not independent, so it is narrow."""
  z, p = 1.96, right / count
  centre, scale = p + z * z / (2 * count), 1 + z * z / count
  reach = z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
  return (centre - reach) / scale, (centre + reach) / scale


if __name__ == "__main__":
  main()
