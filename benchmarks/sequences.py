# SPDX-License-Identifier: Apache-2.0
"""How far the films of -P move real pictures, here and in the authors' make_cifar_p.py.

usage: python benchmarks/sequences.py --peer-python=PATH --robustness=DIR [--cifar=DIR]
         [--images=24] [--names ...]

`--peer-python` and `--robustness` are as for `corruptions.py`; the interpreter needs torch and
torchvision 0.2.1 as well (the release of the year of the data; later ones turn about another
centre). Pictures are CIFAR test pictures, or shrunk crops of photographs without `--cifar`.

All values are 8-bit levels. Films that draw nothing are compared value by value. Of the others,
`delta` (change from the picture) and `step` (change from the frame before, or from the first for
noise) are compared: `z` is their mean difference over its standard error, paired by picture.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from corruptions import (
  FIXED_TOLERANCE,
  RELATIVE_TOLERANCE,
  SUBSTITUTES,
  Z_TOLERANCE,
  ask_peer,
  facts,
  pictures,
)

from mixboost_jax import corruptions

FIXED = (
  "motion_blur",
  "zoom_blur",
  "brightness",
  "translate",
  "rotate",
  "tilt",
  "scale",
  "gaussian_blur",
  "shear",
)
"""Films without draws."""


def changes(films: np.ndarray, images: np.ndarray, *, noise: bool) -> dict[str, np.ndarray]:
  """Returns the mean changes of every film, in levels."""
  films = films.astype(np.float64)
  before = films[:, :1] if noise else films[:, :-1]
  return {
    "delta": np.abs(films - images[:, None]).mean((1, 2, 3, 4)),
    "step": np.abs(films[:, 1:] - before).mean((1, 2, 3, 4)),
  }


def compare(name: str, images: np.ndarray, ours: np.ndarray, peer: np.ndarray) -> dict[str, Any]:
  """Returns the row of one kind of film."""
  row: dict[str, Any] = {"pictures": len(images), "frames": ours.shape[1]}
  if ours.shape != peer.shape:
    return row | {"frames": [ours.shape[1], peer.shape[1]], "agrees": False}
  if name == "spatter_approximate":
    whole = (peer != 0).any((2, 3, 4)).all(1)
    row["left_out"] = int((~whole).sum())  # black where no drop is left: 0 / 0 in the reference
    images, ours, peer = images[whole], ours[whole], peer[whole]
  sides = [changes(films, images, noise="noise" in name) for films in (ours, peer)]
  fine = []
  for what in ("delta", "step"):
    mine, other = (side[what] for side in sides)
    gap = mine - other
    relative = float(gap.mean() / other.mean())
    error = float(gap.std(ddof=1) / np.sqrt(len(gap)))
    z = float(gap.mean() / error) if error else 0.0
    fine.append(abs(relative) < RELATIVE_TOLERANCE or abs(z) < Z_TOLERANCE)
    row |= {f"ours_{what}": round(float(mine.mean()), 3)}
    row |= {f"peer_{what}": round(float(other.mean()), 3), f"relative_{what}": round(relative, 4)}
    if name not in FIXED:
      row[f"z_{what}"] = round(z, 2)
  if name in FIXED:
    gaps = np.abs(ours.astype(np.int64) - peer)
    row["mean_abs_difference"] = round(float(gaps.mean()), 4)
    row["largest_difference"] = int(gaps.max())
    return row | {"agrees": row["mean_abs_difference"] <= FIXED_TOLERANCE}
  row["agrees"] = all(fine)
  return row | ({"substitute": SUBSTITUTES[name]} if name in SUBSTITUTES else {})


def films_of(images: np.ndarray, name: str) -> np.ndarray:
  keys = jax.random.split(jax.random.key(1), len(images))
  pixels = jnp.asarray(images, jnp.float32) / 255
  make = jax.jit(
    jax.vmap(lambda key, x: corruptions.perturb_sequence(key, x, name=name, table="cifar"))
  )
  return np.round(np.asarray(make(keys, pixels)) * 255).astype(np.uint8)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer-python", required=True)
  parser.add_argument("--robustness", required=True)
  parser.add_argument("--cifar", default="", help="folder that holds cifar-10-batches-py")
  parser.add_argument("--cifar-title", default="CIFAR-10 (a copy)", help="what to call a copy")
  parser.add_argument("--images", type=int, default=24)
  parser.add_argument("--names", nargs="+", default=list(corruptions.SEQUENCES))
  parser.add_argument("--out", default="results/benchmarks/sequence_agreement.json")
  args = parser.parse_args()
  args.large_images = 1
  drawn, words = pictures(args)
  images = drawn["cifar"]
  published = {name: corruptions.BENCHMARK_NAMES.get(name, name) for name in args.names}
  jobs = {name: f"cifar_p/{published[name]}/0/{len(images)}" for name in args.names}
  inputs = {"images/cifar_p": images, "jobs": np.array(list(jobs.values())), "seed": 0}
  inputs |= {"robustness": str(pathlib.Path(args.robustness).absolute()), "c_bar": ""}
  peer = ask_peer(args.peer_python, inputs)
  rows = {}
  for name in args.names:
    rows[name] = compare(name, images, films_of(images, name), peer[f"images/{jobs[name]}"])
    print(f"{name}: {json.dumps(rows[name])}", flush=True)
  report = {
    "what": "mean absolute changes in 8-bit levels along films, against the authors' code",
    "pictures": words["cifar"],
    "references": ["github.com/hendrycks/robustness, make_cifar_p.py, with torchvision 0.2.1"],
    "tolerances": {"mean_abs_difference": FIXED_TOLERANCE, "relative": RELATIVE_TOLERANCE,
                   "z": Z_TOLERANCE},
    "films": rows,
    "not_run": [name for name in corruptions.SEQUENCES if name not in rows],
    "not_compared": "the films of 224x224 pictures (make_imagenet_p.py)",
    **facts("sequences"),
  }  # fmt: skip
  path = pathlib.Path(args.out)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  main()
