# SPDX-License-Identifier: Apache-2.0
"""Milliseconds per image of mixup inference (MI-OL, N = 30) against a per-image PyTorch loop.

usage: python benchmarks/mixup_inference.py [--peer-python=PATH] [--images=16] [--rounds=5]

Same weights (WRN-16-2), same machine, both sides in turn within every round. `--peer-python` names
an interpreter that can import torch; without torch only our own numbers are measured.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import twin_network

from mixboost_jax import defenses

DEPTH, WIDTH, NUM_DRAWS, MIX_WEIGHT = 16, 2, 30, 0.6


def ask_peer(python: str, what: str, arrays: dict[str, np.ndarray]) -> dict | None:
  """Runs `peer_torch.py` with another interpreter; None if that one has no torch."""
  script = str(pathlib.Path(__file__).parent / "peer_torch.py")
  with tempfile.TemporaryDirectory() as folder:
    source, target = os.path.join(folder, "in.npz"), os.path.join(folder, "out.json")
    np.savez(source, **arrays)  # pyright: ignore[reportArgumentType]
    done = subprocess.run([python, script, what, source, target], capture_output=True, text=True)
    if done.returncode:
      print(f"peer not run: {done.stderr.strip().splitlines()[-1]}")
      return None
    return json.loads(pathlib.Path(target).read_text())


def measure_ours(weights, images, pool, batch_sizes) -> dict[str, float]:
  def predict(key, images):
    def logits_fn(x):
      return twin_network.jax_logits(weights, x, depth=DEPTH, width=WIDTH)

    return defenses.mixup_inference(
      key, logits_fn, images, pool, mode="ol", mix_weight=MIX_WEIGHT, num_draws=NUM_DRAWS
    )

  compiled = jax.jit(predict)
  times = {}
  for size in batch_sizes:
    batches = [images[i : i + size] for i in range(0, len(images) - size + 1, size)]
    jax.block_until_ready(compiled(jax.random.key(0), batches[0]))
    begin = time.perf_counter()
    for i, batch in enumerate(batches):
      jax.block_until_ready(compiled(jax.random.key(i), batch))
    times[str(size)] = 1e3 * (time.perf_counter() - begin) / (size * len(batches))
  return times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--images", type=int, default=16)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16])
  parser.add_argument("--out", default="results/benchmarks/mixup_inference.json")
  args = parser.parse_args()
  rng = np.random.default_rng(0)
  weights = twin_network.init(0, depth=DEPTH, width=WIDTH)
  images = rng.uniform(size=(args.images, 32, 32, 3)).astype(np.float32)
  pool_images = rng.uniform(size=(1000, 32, 32, 3)).astype(np.float32)
  pool_labels = np.arange(1000) % 10
  arrays = {f"w:{name}": value for name, value in weights.items()}
  arrays |= {"images": images, "pool": pool_images, "pool_labels": pool_labels}
  arrays |= {"depth": np.array(DEPTH), "width": np.array(WIDTH)}
  arrays |= {"num_draws": np.array(NUM_DRAWS), "mix_weight": np.array(MIX_WEIGHT)}
  on_device = {name: jnp.asarray(value) for name, value in weights.items()}
  pool = defenses.build_pool(pool_images, pool_labels, num_classes=10)
  ours: dict[str, list[float]] = {}
  peer: dict[str, list[float]] = {}
  difference = None
  sizes = [size for size in args.batch_sizes if size <= args.images]
  for _ in range(args.rounds):
    for name, value in measure_ours(on_device, jnp.asarray(images), pool, sizes).items():
      ours.setdefault(name, []).append(value)
    answer = ask_peer(args.peer_python, "mixup", arrays)
    if answer is not None:
      for name in ("loop_ms", "batched_ms"):
        peer.setdefault(name, []).append(answer[name])
      logits = twin_network.jax_logits(on_device, images[:4], depth=DEPTH, width=WIDTH)
      difference = float(np.abs(np.asarray(logits) - np.asarray(answer["logits"])).max())
  best = {name: min(values) for name, values in ours.items()}
  report = {
    "what": "ms per image, MI-OL N=30, WRN-16-2, best of rounds",
    "ours_ms_by_batch": best,
    "peer_ms": {name: min(values) for name, values in peer.items()},
    "largest_logit_difference": difference,
    "rounds": args.rounds,
    "backend": jax.default_backend(),
    "jax": jax.__version__,
    "machine": platform.processor() or platform.machine(),
    "cores": os.cpu_count(),
  }
  if peer:
    fastest = min(best.values())
    report["speedup_over_loop"] = min(peer["loop_ms"]) / fastest
    report["speedup_over_batched"] = min(peer["batched_ms"]) / fastest
  path = pathlib.Path(args.out)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n")
  print(json.dumps(report, indent=2))


if __name__ == "__main__":
  main()
