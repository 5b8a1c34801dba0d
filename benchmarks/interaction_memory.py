# SPDX-License-Identifier: Apache-2.0
"""Memory of the compiled estimator at 224 pixels: bounded by the chunk, whatever is sampled.

usage: PYTHONPATH=. python benchmarks/interaction_memory.py [--chunks 32 128]

Nothing runs: the program of one batch of pairs on ResNet-50 is compiled and XLA is asked.
"""

import argparse
import pathlib
import shlex
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from mixboost_jax import files, interactions, models
from mixboost_jax.interactions import _multi_order
from mixboost_jax.runtime import environment

LIMIT_GIB = 8.0
GIB = 2**30


def program_bytes(game: interactions.Game, *, chunk: int, contexts: int) -> dict[str, Any]:
  """Bytes of the compiled program of 16 pairs."""
  started = time.perf_counter()
  compiled = _multi_order.pair_features.lower(
    jax.random.key(0),
    game,
    jnp.zeros((16, 2), int) + jnp.arange(2),
    orders=interactions.orders_of(game.num_players),
    num_contexts=contexts,
    block=1,
    debias="jackknife",
    chunk_size=chunk,
  ).compile()
  found = compiled.memory_analysis()
  assert found is not None
  parts = ("temp_size_in_bytes", "argument_size_in_bytes", "output_size_in_bytes")
  total = sum(getattr(found, part) for part in parts)
  return {
    "chunk_size": chunk,
    "contexts": contexts,
    "evaluations_per_call": 4 * 16 * contexts * 11,
    "gib": total / GIB,
    "temporary_gib": found.temp_size_in_bytes / GIB,
    "under_limit": total < LIMIT_GIB * GIB,
    "seconds_to_compile": time.perf_counter() - started,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--model", default="resnet-50")
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--chunks", type=int, nargs="+", default=(64, 256))
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("results/benchmarks/interaction_memory.json")
  )
  args = parser.parse_args()
  model = models.create(args.model, num_classes=1000, image_size=args.size, key=jax.random.key(0))
  network = models.functional(model)
  apply = jax.tree_util.Partial(
    lambda params, stats, images: network.apply(params, stats, images, train=False)[0],
    network.params,
    network.stats,
  )
  picture = jnp.zeros((args.size, args.size, 3))
  game = interactions.image_game(apply, picture, 0, grid=16, fill=0.5)
  report: dict[str, Any] = {
    "command": shlex.join(["python", *sys.argv]),
    "network": f"{args.model}, {args.size} pixels, 16 x 16 cells",
    "limit_gib": LIMIT_GIB,
    "environment": environment.describe(),
    "programs": [],
  }
  for chunk in args.chunks:
    for contexts in (8, 96):
      report["programs"].append(program_bytes(game, chunk=chunk, contexts=contexts))
      print(report["programs"][-1], flush=True)
      files.make_folder(args.out.parent)
      files.write_json(args.out, report)


if __name__ == "__main__":
  main()
