# SPDX-License-Identifier: Apache-2.0
"""AutoAttack against its PyTorch original: robust accuracy and images per second, same weights.

usage: python benchmarks/autoattack.py [--peer-python=PATH] [--peer-path=DIR] [--images=256]

A small network is trained on scikit-learn's digits in seconds. `--peer-python` names an interpreter
that can import torch, `--peer-path` a folder that holds the `autoattack` package.
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import mixup_inference
import numpy as np
import optax
import sklearn.datasets
import twin_network

from mixboost_jax import attacks

DEPTH, WIDTH = 10, 1


def digits() -> tuple[np.ndarray, np.ndarray]:
  """Returns the 1,797 digits as `[N, 16, 16, 1]` in [0, 1], shuffled."""
  data: Any = sklearn.datasets.load_digits()
  images = np.kron(data.images / 16, np.ones((1, 2, 2)))[..., None].astype(np.float32)
  order = np.random.default_rng(0).permutation(len(images))
  return images[order], data.target[order].astype(np.int32)


def train(images: np.ndarray, labels: np.ndarray, *, steps: int) -> dict[str, jax.Array]:
  weights = twin_network.init(0, depth=DEPTH, width=WIDTH, channels=1)
  params = {name: jnp.asarray(value) for name, value in weights.items()}
  optimizer = optax.adam(3e-3)

  @jax.jit
  def step(params, state, x, y):
    def loss(params):
      logits = twin_network.jax_logits(params, x, depth=DEPTH, width=WIDTH)
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  rng = np.random.default_rng(1)
  for _ in range(steps):
    rows = rng.integers(0, len(images), 128)
    noise = rng.uniform(-0.1, 0.1, images[rows].shape).astype(np.float32)
    params, state = step(params, state, np.clip(images[rows] + noise, 0, 1), labels[rows])
  return params


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--peer-path", default="")
  parser.add_argument("--images", type=int, default=256)
  parser.add_argument("--batch-size", type=int, default=64)
  parser.add_argument("--epsilon", type=float, default=0.1)
  parser.add_argument("--norm", choices=attacks.NORMS, default="linf")
  parser.add_argument("--steps", type=int, default=400)
  parser.add_argument("--out", default="results/benchmarks/autoattack.json")
  args = parser.parse_args()
  images, labels = digits()
  params = train(images[512:], labels[512:], steps=args.steps)
  images, labels = images[: args.images], labels[: args.images]

  def logits_fn(x):
    return twin_network.jax_logits(params, x, depth=DEPTH, width=WIDTH)

  run = attacks.AutoAttack(logits_fn, norm=args.norm, batch_size=args.batch_size)
  begin = time.perf_counter()
  run(jax.random.key(1), images[: args.batch_size], labels[: args.batch_size], epsilon=args.epsilon)
  warm_up = time.perf_counter() - begin
  begin = time.perf_counter()
  result = run(jax.random.key(0), images, labels, epsilon=args.epsilon)
  seconds = time.perf_counter() - begin
  report = {
    "what": f"AutoAttack standard, {args.norm} {args.epsilon}, {args.images} digits, WRN-10-1",
    "ours": {"seconds": seconds, "first_run_seconds": warm_up, **result.accuracy_after()},
    "backend": jax.default_backend(),
    "jax": jax.__version__,
    "machine": platform.processor() or platform.machine(),
    "cores": os.cpu_count(),
  }
  arrays = {f"w:{name}": np.asarray(value) for name, value in params.items()}
  arrays |= {"images": images, "labels": labels, "depth": np.array(DEPTH), "width": np.array(WIDTH)}
  arrays |= {"norm": np.array(args.norm), "epsilon": np.array(args.epsilon)}
  arrays |= {"batch_size": np.array(args.batch_size)}
  if args.peer_path:
    os.environ["PYTHONPATH"] = args.peer_path
  answer = mixup_inference.ask_peer(args.peer_python, "autoattack", arrays)
  if answer is not None:
    robust = np.asarray(answer["robust"])
    report["peer"] = {
      "seconds": answer["seconds"],
      "clean": float(np.mean(answer["clean"])),
      "robust": float(robust.mean()),
      "torch": answer["torch"],
    }
    report["images_that_differ"] = int((robust != result.robust).sum())
    report["difference_percent"] = 100 * float(result.robust.mean() - robust.mean())
    report["speed_ratio"] = answer["seconds"] / seconds
  path = pathlib.Path(args.out)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n")
  print(json.dumps(report, indent=2))


if __name__ == "__main__":
  main()
