# SPDX-License-Identifier: Apache-2.0
"""Pixel parity with Pillow on real pictures: every operation over its whole range of magnitudes.

  python benchmarks/parity.py --data=cifar10 --dir=FOLDER   # real pictures, JSON under results/
  python benchmarks/parity.py                               # the procedural set

Point and histogram operations and nearest-neighbour warps must be equal; bilinear warps may differ
by one grey level on at most 2 % of the values. The exit code is 1 if they do not.
"""

import argparse
import datetime
import json
import pathlib
import shlex
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

RANGES = {
  "autocontrast": (0, 0),
  "equalize": (0, 0),
  "invert": (0, 0),
  "posterize": (1, 8),
  "solarize": (0, 256),
  "color": (0, 2),
  "contrast": (0, 2),
  "brightness": (0, 2),
  "sharpness": (0, 2),
  "rotate": (-135, 135),
  "shear_x": (-0.99, 0.99),
  "shear_y": (-0.99, 0.99),
  "translate_x": (-32, 32),
  "translate_y": (-32, 32),
}
"""Lowest and highest magnitude of any policy."""
BILINEAR = {"rotate": (-30, 30), "shear_x": (-0.3, 0.3), "shear_y": (-0.3, 0.3)}
"""Of AugMix and PixMix at severity 10; shifts move by whole pixels."""
WHOLE = ("posterize", "translate_x", "translate_y")
LARGEST_SHARE = 0.02


def main() -> int:
  arguments = parse()
  title, pictures = load(arguments)
  title = arguments.title or title
  rows = [measure(pictures, op, ends, "nearest", arguments.steps) for op, ends in RANGES.items()]
  rows += [
    measure(pictures, op, ends, "bilinear", arguments.steps) for op, ends in BILINEAR.items()
  ]
  passed = all(row["passed"] for row in rows)
  report = {
    "benchmark": "parity",
    "command": shlex.join(["python", *sys.argv]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "data": title,
    "pictures": len(pictures),
    "passed": passed,
    "rows": rows,
  }
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps(report, indent=2) + "\n")
  print(f"{title}, {len(pictures)} pictures: {'passed' if passed else 'FAILED'}")
  return 0 if passed else 1


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description="Parity with Pillow on real pictures.")
  parser.add_argument("--data", default="shapes", help="as config.data.name")
  parser.add_argument("--dir", default="", help="as config.data.dir")
  parser.add_argument("--title", default="", help="of the pictures, if not that of the set")
  parser.add_argument("--number", type=int, default=200, help="pictures")
  parser.add_argument("--steps", type=int, default=31, help="magnitudes per operation")
  parser.add_argument("--out", default="", help="JSON file to write")
  return parser.parse_args()


def load(arguments: argparse.Namespace) -> tuple[str, np.ndarray]:
  from configs import base
  from mixboost_jax import data, settings

  keys = {"data.name": arguments.data, "data.dir": arguments.dir}
  keys["data.test_examples"] = arguments.number
  found = data.load(settings.resolve(base.override(base.get_config(), keys)).data)
  return found.title, np.asarray(found.test.images)


def measure(
  pictures: np.ndarray, op: str, ends: tuple[float, float], interpolation: str, steps: int
) -> dict[str, Any]:
  magnitudes: Any = np.unique(np.linspace(*ends, steps).astype(np.float32))
  if op in WHOLE:
    magnitudes = np.unique(np.rint(magnitudes))
  elif interpolation == "bilinear" and op == "rotate":
    magnitudes = np.unique(np.rint(magnitudes))  # by whole degrees
  elif interpolation == "bilinear":
    # As drawn: at round shears many exact results are whole levels, and rounding decides.
    magnitudes = np.random.default_rng(0).uniform(*ends, steps).astype(np.float32)
  difference = np.stack(
    [np.abs(a.astype(int) - b) for a, b in outputs(pictures, op, magnitudes, interpolation)]
  )
  share = (difference > 0).mean(axis=(1, 2, 3, 4))
  exact = interpolation == "nearest"
  row = {
    "op": op,
    "interpolation": interpolation if op in ("rotate", "shear_x", "shear_y") else "none",
    "magnitudes": len(magnitudes),
    "range": [float(magnitudes.min()), float(magnitudes.max())],
    "largest_difference": int(difference.max()),
    "share_differing": float(f"{share.mean():.3g}"),
    "share_at_worst_magnitude": float(f"{share.max():.3g}"),
  }
  limit = 0 if exact else 1
  row["passed"] = bool(difference.max() <= limit and share.max() <= LARGEST_SHARE)
  print(json.dumps(row), flush=True)
  return row


def outputs(pictures: np.ndarray, op: str, magnitudes: np.ndarray, interpolation: str) -> Any:
  """Yields (ours, Pillow's) for every magnitude."""
  import jax
  import jax.numpy as jnp
  import pil_pipelines
  from PIL import Image

  from mixboost_jax.augment import _steps as apply
  from mixboost_jax.augment import _steps as steps

  number, height, width, _ = pictures.shape
  which = steps.Op[op.upper()]
  fill = jnp.zeros(3, jnp.uint8)
  run = jax.jit(
    lambda x, s: apply.apply_serial(x, s, ops=(which,), interpolation=interpolation, fill=fill)
  )
  sampling = pil_pipelines.BILINEAR if interpolation == "bilinear" else pil_pipelines.NEAREST
  for m in magnitudes:
    table = steps.tabulate(
      [[which]], [[m]], height=height, width=width, interpolation=interpolation
    )
    drawn = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), number, axis=0), table)
    theirs = [pil_pipelines.apply(Image.fromarray(p), op, float(m), sampling) for p in pictures]
    yield np.asarray(run(jnp.asarray(pictures), drawn)), np.stack([np.asarray(t) for t in theirs])


if __name__ == "__main__":
  sys.exit(main())
