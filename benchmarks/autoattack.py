# SPDX-License-Identifier: Apache-2.0
"""AutoAttack against its PyTorch original: robust accuracy on the same weights and images.

usage: python benchmarks/autoattack.py [--cifar=DIR] [--peer-python=PATH] [--peer-path=DIR]
         [--images=256] [--classes 10 4 3 2]

A small convolutional network is trained on CIFAR-10 (`--cifar` holds cifar-10-batches-py), or on
scikit-learn's digits without that folder, once for every number of classes (the first K of them).
`--peer-python` names an interpreter that can import torch, `--peer-path` a clone of
fra31/auto-attack. The original has no targeted DLR loss below four classes, so there it runs
APGD-CE, FAB-T and Square; ours always runs all four attacks.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mixup_inference
import numpy as np
import optax
import twin_cnn

from mixboost_jax import attacks
from mixboost_jax.data import cifar

TOLERANCE = 0.5
"""Percentage points by which the robust accuracies may differ."""


class Pictures:
  """Training and test pictures in [0, 1] of the first K classes, shuffled."""

  def __init__(self, folder: str, title: str):
    if folder:
      layout = cifar.LAYOUTS["cifar10"]
      place = pathlib.Path(folder) / layout.folder
      train, test, _ = cifar.read(place, layout)
      self.parts = [(np.asarray(p.images), np.asarray(p.labels)) for p in (train, test)]
      self.title = layout.title if cifar.is_official(place, layout) else title
      return
    import sklearn.datasets

    data: Any = sklearn.datasets.load_digits()
    images = np.kron(data.images / 16 * 255, np.ones((1, 4, 4)))[..., None].repeat(3, -1)
    images = images.astype(np.uint8)
    self.parts = [(images[700:], data.target[700:]), (images[:700], data.target[:700])]
    self.title = "scikit-learn digits, enlarged to 32x32"

  def part(self, index: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = self.parts[index]
    rows = np.flatnonzero(labels < num_classes)
    return images[rows].astype(np.float32) / 255, labels[rows].astype(np.int32)


PLACES = ("--peer-python", "--peer-path", "--cifar", "--out")


def public(arguments: Sequence[str], places: Sequence[str] = PLACES) -> list[str]:
  """Returns the arguments of a command without the folders of this machine."""
  return [a.partition("=")[0] + "=..." if a.partition("=")[0] in places else a for a in arguments]


def train(images: np.ndarray, labels: np.ndarray, *, num_classes: int, steps: int) -> dict:
  """Trains with noise of 4/255, so that some pictures survive an attack of 2/255."""
  weights = twin_cnn.init(0, num_classes=num_classes)
  params = {name: jnp.asarray(value) for name, value in weights.items()}
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))

  @jax.jit
  def step(params, state, x, y):
    def loss(params):
      logits = twin_cnn.jax_logits(params, x)
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  rng = np.random.default_rng(1)
  for _ in range(steps):
    rows = rng.integers(0, len(images), 128)
    noise = rng.uniform(-4 / 255, 4 / 255, images[rows].shape).astype(np.float32)
    params, state = step(params, state, np.clip(images[rows] + noise, 0, 1), labels[rows])
  return params


def compare(args: argparse.Namespace, pictures: Pictures, num_classes: int) -> dict[str, Any]:
  """Attacks one network from both sides."""
  params = train(*pictures.part(0, num_classes), num_classes=num_classes, steps=args.steps)
  images, labels = (array[: args.images] for array in pictures.part(1, num_classes))

  def logits_fn(x):
    return twin_cnn.jax_logits(params, x)

  run = attacks.AutoAttack(logits_fn, norm=args.norm, batch_size=args.batch_size)
  begin = time.perf_counter()
  result = run(jax.random.key(0), images, labels, epsilon=args.epsilon)
  row: dict[str, Any] = {
    "images": len(images),
    "ours": {**result.accuracy_after(), "seconds_with_compilation": time.perf_counter() - begin},
  }
  arrays = {f"w:{name}": np.asarray(value) for name, value in params.items()}
  arrays |= {"images": images, "labels": labels, "batch_size": np.array(args.batch_size)}
  arrays |= {"norm": np.array(args.norm), "epsilon": np.array(args.epsilon)}
  arrays |= {"threads": np.array(args.threads)}
  answer = mixup_inference.ask_peer(args.peer_python, "autoattack", arrays)
  if answer is None:
    return row
  robust = np.asarray(answer["robust"])
  row["peer"] = {
    "clean": float(np.mean(answer["clean"])),
    "robust": float(robust.mean()),
    "attacks": answer["attacks"],
    "seconds": answer["seconds"],
    "torch": answer["torch"],
  }
  row["images_that_differ"] = int((robust != result.robust).sum())
  row["difference_percent"] = 100 * float(result.robust.mean() - robust.mean())
  row["agrees"] = abs(row["difference_percent"]) <= TOLERANCE
  return row


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--cifar", default="", help="folder that holds cifar-10-batches-py")
  parser.add_argument("--cifar-title", default="CIFAR-10 (a copy)", help="what to call a copy")
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--peer-path", default="")
  parser.add_argument("--images", type=int, default=256)
  parser.add_argument("--classes", type=int, nargs="+", default=[10, 4, 3, 2])
  parser.add_argument("--batch-size", type=int, default=64)
  parser.add_argument("--epsilon", type=float, default=2 / 255)
  parser.add_argument("--norm", choices=attacks.NORMS, default="linf")
  parser.add_argument("--steps", type=int, default=1500)
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the original")
  parser.add_argument("--out", default="results/benchmarks/autoattack_agreement.json")
  args = parser.parse_args()
  if args.peer_path:
    os.environ["PYTHONPATH"] = args.peer_path
  pictures = Pictures(args.cifar, args.cifar_title)
  report: dict[str, Any] = {
    "what": f"accuracy under AutoAttack standard, {args.norm} {args.epsilon:.6g}",
    "pictures": pictures.title,
    "network": "three convolutions and a dense layer (benchmarks/twin_cnn.py), trained here",
    "seconds": "machine shared with other work: not a measurement of speed",
    "classes": {},
    "command": " ".join(["python", "benchmarks/autoattack.py", *public(sys.argv[1:])]),
    "backend": jax.default_backend(),
    "jax": jax.__version__,
    "machine": platform.processor() or platform.machine(),
    "cores": os.cpu_count(),
    "date": datetime.date.today().isoformat(),
  }
  path = pathlib.Path(args.out)
  path.parent.mkdir(parents=True, exist_ok=True)
  for num_classes in args.classes:
    report["classes"][str(num_classes)] = compare(args, pictures, num_classes)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(num_classes, json.dumps(report["classes"][str(num_classes)]), flush=True)


if __name__ == "__main__":
  main()
