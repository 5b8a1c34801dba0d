# SPDX-License-Identifier: Apache-2.0
"""Masked forwards per second on the same network and weights: ours and the protocol in PyTorch.

usage: PYTHONPATH=. python benchmarks/interaction_rate.py [--peer-python PYTHON_WITH_TORCH]

Both sides take turns, so that slow spells hit both; quoted are medians over the rounds and the
median of the ratios. A timed benchmark: let nothing else run. Without torch the peer is "not run".
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import mixup_inference
import numpy as np
import trained_run
import twin_network

from mixboost_jax import files, interactions
from mixboost_jax.runtime import environment
from mixboost_jax.runtime import mesh as meshes

GRID, ORDER = 16, 127
TARGET = 0.9
LAYOUTS = ("nchw", "channels_last")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--depth", type=int, default=10)
  parser.add_argument("--width", type=int, default=1)
  parser.add_argument("--pairs", type=int, default=20)
  parser.add_argument("--contexts", type=int, default=100)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--devices", type=int, default=2, help="virtual CPU devices; 1: one")
  parser.add_argument("--chunk_size", type=int, default=256)
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("results/benchmarks/interaction_rate.json")
  )
  args = parser.parse_args()
  if args.devices > 1 and os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
    jax.config.update("jax_num_cpu_devices", args.devices)
  weights = twin_network.init(0, depth=args.depth, width=args.width)
  image = np.random.default_rng(0).uniform(size=(32, 32, 3)).astype(np.float32)
  pairs = interactions.sample_pairs(
    jax.random.key(0), interactions.neighbour_population(GRID), num_pairs=args.pairs
  )

  def apply(params, images):
    return twin_network.jax_logits(params, images, depth=args.depth, width=args.width)

  mesh = meshes.create()
  replicated = meshes.replicated(mesh)
  params = jax.device_put({name: jnp.asarray(value) for name, value in weights.items()}, replicated)
  picture = jax.device_put(image, replicated)
  made = interactions.image_game(
    jax.tree_util.Partial(apply, params), picture, 0, grid=GRID, fill=0.5
  )
  sharding = meshes.batch_sharding(mesh) if mesh.size > 1 else None
  arguments = jax.device_put(made.args, replicated)
  game = interactions.Game(made.num_players, made.value_fn, arguments, sharding)

  def ours(seed: int) -> float:
    options = {"orders": (ORDER,), "pairs": pairs, "num_contexts": args.contexts}
    key = jax.random.key(seed)
    started = time.perf_counter()
    found = interactions.multi_order(key, game, chunk_size=args.chunk_size, **options)
    jax.block_until_ready(found.differences)
    return found.evaluations / (time.perf_counter() - started)

  ours(0)
  numbers = np.array([args.depth, args.width, ORDER, args.contexts, GRID])
  sent = {f"w:{name}": value for name, value in weights.items()}
  sent |= {"image": image, "pairs": np.asarray(pairs), "numbers": numbers}
  own: list[float] = []
  peer: list[dict[str, Any]] = []
  for seed in range(args.rounds):
    own.append(ours(seed))
    script = "peer_interactions.py"
    answer = mixup_inference.ask_peer(args.peer_python, "forwards", sent, script=script)
    peer += [] if answer is None else [answer]
    print(own[-1], {layout: one[layout] for one in peer[-1:] for layout in LAYOUTS}, flush=True)
  report: dict[str, Any] = {
    "command": trained_run.command(),
    "network": f"WRN-{args.depth}-{args.width}, 32 pixels, {GRID} x {GRID} cells",
    "forwards_per_second": {"ours": statistics.median(own)},
    "ratio": "not run: no torch",
    "target_channels_last_on_cpu": TARGET,
    "rounds": args.rounds,
    "environment": environment.describe(),
  }
  if len(peer) == len(own):
    gap = np.abs(np.asarray(apply(params, picture[None])) - np.array(peer[0]["logits"])).max()
    report["largest_difference_of_logits"], report["ratio"] = float(gap), {}
    report["peer_device"] = peer[0]["device"]
    for layout in LAYOUTS:
      rates = [one[layout] for one in peer]
      report["forwards_per_second"][layout] = statistics.median(rates)
      report["ratio"][layout] = statistics.median(a / b for a, b in zip(own, rates, strict=True))
  files.make_folder(args.out.parent)
  files.write_json(args.out, report)
  speed = report["forwards_per_second"]["ours"]
  print(f"{speed:.0f} forwards per second; ratio {json.dumps(report['ratio'])}")


if __name__ == "__main__":
  main()
