# SPDX-License-Identifier: Apache-2.0
"""How far every corruption moves real pictures, here and in the authors' own code.

usage: python benchmarks/corruptions.py --peer-python=PATH --robustness=DIR --c-bar=DIR
         [--cifar=DIR] [--images=200] [--large-images=12] [--slow-images=4]
         [--severities 1 2 3 4 5]

`--peer-python` names an interpreter with numpy, scipy, pillow, opencv-python-headless, scikit-image
and wand (ImageMagick). `--robustness` and `--c-bar` are clones of hendrycks/robustness and
facebookresearch/augmentation-corruption, which run as they are (`peer_corruptions.py`).

Pictures of 32x32 are CIFAR test pictures if `--cifar` has them, else shrunk crops of the two
photographs that come with scikit-learn; those of 224x224 are crops of these photographs. All values
are 8-bit levels. Corruptions that draw nothing are compared value by value. The others draw other
numbers on the two sides, so their distance to the clean picture is compared: `z` is the mean
difference of that distance over its standard error, paired by picture, and `relative` its size.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from autoattack import public

from mixboost_jax import corruptions
from mixboost_jax.data import cifar

PLACES = ("--peer-python", "--robustness", "--c-bar", "--cifar", "--out")
SLOW = ("caustic_refraction", "sparkles", "perlin_noise", "plasma_noise", "glass_blur")
"""Seconds per 224x224 picture in the reference; compared on `--slow-images` of them."""
SUBSTITUTES = {
  "frost_procedural": "drawn ice instead of the authors' photographs",
  "spatter_approximate": "rims of the drops without Canny edges and an integer distance transform",
}
FIXED_TOLERANCE = 1.2
"""Largest mean difference in levels for corruptions without draws: JPEG codecs differ by 1.1."""
RELATIVE_TOLERANCE, Z_TOLERANCE = 0.02, 4.0
"""A drawn corruption agrees if the distances differ by less than either."""


def photographs(count: int, side: int, *, shrink: int = 1) -> np.ndarray:
  """Returns square crops of scikit-learn's two photographs, box-averaged by `shrink`."""
  import sklearn.datasets

  photos: Any = sklearn.datasets.load_sample_images()
  rng = np.random.default_rng(0)
  crops = []
  for i in range(count):
    photo = photos.images[i % 2]
    top, left = (rng.integers(0, length - side * shrink + 1) for length in photo.shape[:2])
    crop = photo[top : top + side * shrink, left : left + side * shrink].astype(np.float64)
    crops.append(crop.reshape(side, shrink, side, shrink, 3).mean((1, 3)))
  return np.stack(crops).astype(np.uint8)


def pictures(args: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  large = photographs(args.large_images, 224)
  words = {"imagenet": "224x224 crops of scikit-learn's two sample photographs"}
  if args.cifar:
    layout = cifar.LAYOUTS["cifar10"]
    folder = pathlib.Path(args.cifar) / layout.folder
    small = cifar.read(folder, layout)[1].images[: args.images]
    words["cifar"] = layout.title if cifar.is_official(folder, layout) else args.cifar_title
  else:
    small = photographs(args.images, 32, shrink=4)
    words["cifar"] = "32x32 crops of the same, shrunk by 4"
  return {"cifar": small, "imagenet": large}, words


def ask_peer(python: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
  """Runs the reference functions in another interpreter."""
  script = str(pathlib.Path(__file__).parent / "peer_corruptions.py")
  with tempfile.TemporaryDirectory() as folder:
    source, target = (os.path.join(folder, name) for name in ("in.npz", "out.npz"))
    np.savez(source, **inputs)
    done = subprocess.run([python, script, source, target], capture_output=True, text=True)
    if done.returncode:
      raise SystemExit(f"reference not run:\n{done.stderr[-2000:]}")
    return dict(np.load(target))


def distances(results: np.ndarray, clean: np.ndarray) -> np.ndarray:
  """Returns the mean absolute change of every picture, in levels."""
  return np.abs(results.astype(np.float64) - clean).mean((1, 2, 3))


def moments(results: np.ndarray) -> dict[str, float]:
  return {"mean": round(float(results.mean()), 3), "deviation": round(float(results.std()), 3)}


def compare(name: str, clean: np.ndarray, ours: list[np.ndarray], peer: list[np.ndarray]) -> dict:
  """Returns the row of one corruption over all severities."""
  moved = [np.stack([distances(r, clean) for r in side]) for side in (ours, peer)]
  row: dict[str, Any] = {
    "pictures": len(clean),
    "ours_delta": [round(float(d), 3) for d in moved[0].mean(1)],
    "peer_delta": [round(float(d), 3) for d in moved[1].mean(1)],
    "ours": moments(np.concatenate(ours)),
    "peer": moments(np.concatenate(peer)),
  }
  difference = (moved[0] - moved[1]).mean(0)  # per picture, over severities
  row["relative"] = round(float(difference.mean() / moved[1].mean()), 4)
  if not corruptions.CORRUPTIONS[name].samples:
    gaps = [np.abs(a.astype(np.int64) - b) for a, b in zip(ours, peer, strict=True)]
    row["mean_abs_difference"] = round(float(np.mean([g.mean() for g in gaps])), 4)
    row["largest_difference"] = int(max(g.max() for g in gaps))
    row["agrees"] = row["mean_abs_difference"] <= FIXED_TOLERANCE
    return row
  error = difference.std(ddof=1) / np.sqrt(len(difference))
  row["z"] = round(float(difference.mean() / error), 2) if error else 0.0
  row["agrees"] = abs(row["relative"]) < RELATIVE_TOLERANCE or abs(row["z"]) < Z_TOLERANCE
  if name in SUBSTITUTES:
    row["substitute"] = SUBSTITUTES[name]
  return row


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--robustness", required=True)
  parser.add_argument("--c-bar", required=True)
  parser.add_argument("--cifar", default="", help="folder that holds cifar-10-batches-py")
  parser.add_argument("--cifar-title", default="CIFAR-10 (a copy)", help="what to call a copy")
  parser.add_argument("--images", type=int, default=200)
  parser.add_argument("--large-images", type=int, default=12)
  parser.add_argument("--slow-images", type=int, default=4)
  parser.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5])
  parser.add_argument("--names", nargs="+", default=[], help="of corruptions; all by default")
  parser.add_argument("--update", action="store_true", help="keep other rows of the file")
  parser.add_argument("--tables", nargs="+", default=["cifar", "imagenet"])
  parser.add_argument("--out", default="results/benchmarks/corruption_agreement.json")
  args = parser.parse_args()
  images, words = pictures(args)
  wanted = [
    (table, name, len(images[table][: args.slow_images if slow(table, name) else None]))
    for table in args.tables
    for name in corruptions.SEVERITIES[table]
    if not args.names or name in args.names
  ]
  jobs = {
    (table, name, s): f"{table}/{corruptions.BENCHMARK_NAMES.get(name, name)}/{s}/{rows}"
    for table, name, rows in wanted
    for s in args.severities
  }
  inputs: dict[str, Any] = {f"images/{table}": images[table] for table in args.tables}
  inputs |= {"jobs": np.array(list(jobs.values())), "seed": 0}
  inputs |= {f: str(pathlib.Path(getattr(args, f)).absolute()) for f in ("robustness", "c_bar")}
  peer = ask_peer(args.peer_python, inputs)
  table_rows: dict[str, dict[str, Any]] = {table: {} for table in args.tables}
  for table, name, rows in wanted:
    clean = images[table][:rows]
    levels = [peer[f"images/{jobs[table, name, s]}"] for s in args.severities]
    ours = [corrupted(clean, name, s, table) for s in args.severities]
    row = {"severities": args.severities, **compare(name, clean, ours, levels)}
    table_rows[table][name] = row
    print(f"{table} {name}: {json.dumps(row)}", flush=True)
    jax.clear_caches()
  report = {
    "what": "mean absolute change in 8-bit levels by severity, against the authors' code",
    "pictures": words,
    "references": ["github.com/hendrycks/robustness", "github.com/facebookresearch/"
                   "augmentation-corruption"],
    "tolerances": {"mean_abs_difference": FIXED_TOLERANCE, "relative": RELATIVE_TOLERANCE,
                   "z": Z_TOLERANCE},
    "tables": table_rows,
    **facts("corruptions"),
  }  # fmt: skip
  path = pathlib.Path(args.out)
  path.parent.mkdir(parents=True, exist_ok=True)
  if args.update and path.is_file():
    before = json.loads(path.read_text())
    for table, rows in table_rows.items():
      before["tables"].setdefault(table, {}).update(rows)
    report |= {"tables": before["tables"], "pictures": before["pictures"] | words}
    report["commands"] = [*before["commands"], *report["commands"]]
  report["not_run"] = not_run(report["tables"])
  path.write_text(json.dumps(report, indent=1) + "\n")


def facts(script: str) -> dict[str, Any]:
  """Returns by which command a report was made, on what, and when."""
  return {
    "commands": [" ".join(["python", f"benchmarks/{script}.py", *public(sys.argv[1:], PLACES)])],
    "jax": jax.__version__,
    "backend": jax.default_backend(),
    "machine": platform.processor() or platform.machine(),
    "cores": os.cpu_count(),
    "date": datetime.date.today().isoformat(),
  }


def not_run(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
  """Returns the corruptions of every table that have no row."""
  return {
    table: [name for name in levels if name not in tables.get(table, {})]
    for table, levels in corruptions.SEVERITIES.items()
  }


def slow(table: str, name: str) -> bool:
  return table == "imagenet" and name in SLOW


def corrupted(clean: np.ndarray, name: str, severity: int, table: str) -> np.ndarray:
  key = jax.random.fold_in(jax.random.key(1), severity)
  pixels = jnp.asarray(clean, jnp.float32) / 255
  out = corruptions.corrupt(key, pixels, name=name, severity=severity, table=table)
  return np.round(np.asarray(out) * 255).astype(np.uint8)


if __name__ == "__main__":
  main()
