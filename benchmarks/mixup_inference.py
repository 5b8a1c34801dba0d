# SPDX-License-Identifier: Apache-2.0
"""Milliseconds per image of mixup inference (MI-OL, N = 30) against a per-image PyTorch loop.

usage: python benchmarks/mixup_inference.py [--peer-python=PATH] [--images=16] [--rounds=5]
         [--ways 1x1/30 2x1/30 2x4/30 8x1/30 8x2/60] [--out=FILE.json]

Same weights (WRN-16-2), same machine, both sides in turn within every round. `--peer-python` names
an interpreter that can import torch; without torch only our own numbers are measured. A way is
DEVICESxIMAGES/ROWS: virtual CPU devices, images per device and call, mixes per forward pass.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import twin_network

from mixboost_jax import defenses
from mixboost_jax.runtime import mesh as meshes

DEPTH, WIDTH, NUM_DRAWS, MIX_WEIGHT = 16, 2, 30, 0.6
_ABSENT: set[tuple[str, str]] = set()
"""Peers that did not run; nobody waits for them again."""


def ask_peer(
  python: str, what: str, arrays: dict[str, np.ndarray], *, script: str = "peer_torch.py"
) -> dict | None:
  """Runs a script of this folder with another interpreter; None if that one lacks the peer."""
  if (python, what) in _ABSENT:
    return None
  script = str(pathlib.Path(__file__).parent / script)
  with tempfile.TemporaryDirectory() as folder:
    source, target = os.path.join(folder, "in.npz"), os.path.join(folder, "out.json")
    np.savez(source, **arrays)  # pyright: ignore[reportArgumentType]
    done = subprocess.run([python, script, what, source, target], capture_output=True, text=True)
    if done.returncode:
      print(f"peer not run: {done.stderr.strip().splitlines()[-1]}")
      _ABSENT.add((python, what))
      return None
    return json.loads(pathlib.Path(target).read_text())


@dataclasses.dataclass(frozen=True)
class Way:
  """How our side batches: virtual devices, images per device and call, mixes per forward pass."""

  devices: int
  images: int
  max_rows: int

  def __str__(self) -> str:
    return f"{self.devices}x{self.images}/{self.max_rows}"

  @classmethod
  def parse(cls, text: str) -> "Way":
    devices, images, max_rows = map(int, text.replace("/", "x").split("x"))
    return cls(devices, images, max_rows)


class Ours:
  """One way, compiled once: every device defends its own images."""

  def __init__(self, way: Way, weights, pool):
    self.mesh = meshes.create(devices=jax.devices()[: way.devices])
    self.size = way.devices * way.images
    self.shared = jax.device_put((weights, pool), meshes.replicated(self.mesh))

    def predict(shared, keys, images):
      weights, pool = shared

      def logits_fn(x):
        return twin_network.jax_logits(weights, x, depth=DEPTH, width=WIDTH)

      return defenses.mixup_inference(
        keys,
        logits_fn,
        images,
        pool,
        mode="ol",
        mix_weight=MIX_WEIGHT,
        num_draws=NUM_DRAWS,
        max_rows=way.max_rows,
      )

    self.run = jax.jit(meshes.over_examples(predict, self.mesh))

  def measure(self, images: np.ndarray) -> float:
    """Returns ms per image over all whole batches, the first call left out."""
    sharding = meshes.batch_sharding(self.mesh)
    chunks = [images[i : i + self.size] for i in range(0, len(images) - self.size + 1, self.size)]
    keys = jax.device_put(jax.random.split(jax.random.key(0), self.size), sharding)
    batches = [jax.device_put(chunk, sharding) for chunk in chunks]
    jax.block_until_ready(self.run(self.shared, keys, batches[0]))
    begin = time.perf_counter()
    for batch in batches:
      jax.block_until_ready(self.run(self.shared, keys, batch))
    return 1e3 * (time.perf_counter() - begin) / (self.size * len(batches))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--images", type=int, default=16)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument(
    "--ways", nargs="+", default=["1x1/30", "2x1/30", "2x4/30", "8x1/30", "8x2/60"]
  )
  parser.add_argument("--out", default="results/benchmarks/mixup_inference.json")
  args = parser.parse_args()
  # Read by XLA when the first device is asked for.
  flag = "--xla_force_host_platform_device_count"
  if flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}=8".strip()
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
  difference = answer = None
  ways = [Way.parse(text) for text in args.ways]
  ways = [
    w for w in ways if w.devices <= jax.device_count() and w.devices * w.images <= args.images
  ]
  sides = {str(way): Ours(way, on_device, pool) for way in ways}
  for _ in range(args.rounds):
    for name, side in sides.items():
      ours.setdefault(name, []).append(side.measure(images))
    answer = ask_peer(args.peer_python, "mixup", arrays)
    if answer is not None:
      for name in ("loop_ms", "batched_ms"):
        peer.setdefault(name, []).append(answer[name])
      logits = twin_network.jax_logits(on_device, images[:4], depth=DEPTH, width=WIDTH)
      difference = float(np.abs(np.asarray(logits) - np.asarray(answer["logits"])).max())
  best = {name: min(values) for name, values in ours.items()}
  report: dict[str, Any] = {
    "what": "ms per image, MI-OL N=30, WRN-16-2, best of rounds",
    "command": shlex.join(["python", *(a for a in sys.argv if not a.startswith("--peer-python"))]),
    "date": datetime.date.today().isoformat(),
    "ours_ms_by_way": best,
    "peer_ms": {name: min(values) for name, values in peer.items()} or "not run",
    "peer_device": answer["device"] if answer else "not run",
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
  way = min(best, key=best.__getitem__)
  speedups = [f"{key} {value:.2f}" for key, value in report.items() if key.startswith("speedup")]
  print(", ".join([f"{way}: {best[way]:.3f} ms per image", *speedups]))


if __name__ == "__main__":
  main()
