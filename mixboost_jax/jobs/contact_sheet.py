# SPDX-License-Identifier: Apache-2.0
"""One picture of every augmentation and mixing family, to look at.

`python -m mixboost_jax.jobs.contact_sheet --out=FILE.png [--images=FILE_OR_FOLDER] [--seed=0]`
`... --size=224 --zoom=1 --number=8` shows large ones, `--only=mixing` the procedural mixing set.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import augment
from mixboost_jax.data import arrays, pictures

_LABEL_WIDTH = 112


def policies(size: int) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (title, policy) of every augmentation, for pictures of a side of `size` pixels."""
  for name, entry in augment.AUGMENTATIONS.items():
    shown = entry.examples(size) if entry.examples else {name.replace("_", " "): {}}
    for title, keywords in shown.items():
      yield title, {"name": name, **keywords}


def rows_of(images: np.ndarray, labels: np.ndarray, *, seed: int) -> list[tuple[str, np.ndarray]]:
  """Returns (title, float pictures [N, S, S, 3]) for every policy and every mixing family."""
  key = jax.random.key(seed)
  size, number = images.shape[1], len(images)
  batch = jnp.asarray(images, jnp.float32)
  soft = jax.nn.one_hot(jnp.asarray(labels), int(labels.max()) + 1)
  made = mixing_rows(number=number, size=size * 8 // 7, seed=seed)
  mixing = jnp.concatenate([images for _, images in made])
  rows = [("original", np.asarray(batch))]
  for i, (title, policy) in enumerate(policies(size)):
    fn = jax.jit(augment.build(policy, mixing_images=mixing))
    rows.append((title, np.asarray(fn(jax.random.fold_in(key, i), batch, soft)[0])))
  return rows + [(title, mixed[:, :size, :size]) for title, mixed in made]


def mixing_rows(*, number: int, size: int, seed: int) -> list[tuple[str, np.ndarray]]:
  """Returns (title, float pictures) for every mixing family."""
  made = {
    family: augment.mixing_images(jax.random.key(seed), number, size=size, families=(family,))
    for family in augment.FAMILIES
  }
  return [(family.replace("_", " "), np.asarray(images)) for family, images in made.items()]


def draw(rows: Sequence[tuple[str, np.ndarray]], *, zoom: int) -> Any:
  """Returns one Pillow image: a titled row per entry."""
  from PIL import Image, ImageDraw

  number, size = rows[0][1].shape[:2]
  cell = size * zoom + 2
  sheet = Image.new("RGB", (_LABEL_WIDTH + number * cell, len(rows) * cell), "white")
  pen = ImageDraw.Draw(sheet)
  for r, (title, images) in enumerate(rows):
    pen.text((4, r * cell + cell // 2 - 6), title, fill="black")
    for c, picture in enumerate(images):
      pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
      tile = Image.fromarray(pixels).resize((size * zoom, size * zoom), Image.Resampling.NEAREST)
      sheet.paste(tile, (_LABEL_WIDTH + c * cell, r * cell))
  return sheet


def load(path: str, *, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads float pictures and labels from an .npz (images, labels) or a folder.

  Raises:
    ValueError: if nothing readable is there.
  """
  place = pathlib.Path(path)
  if place.suffix == ".npz":
    stored = arrays.read_npz(place)
    images = next((a for a in stored.values() if a.ndim == 4), None)
    labels = next((a for a in stored.values() if a.ndim == 1), None)
    if images is None or images.dtype != np.uint8 or images.shape[-1] != 3:
      raise ValueError(f"{place}: expected an array uint8[N, H, W, 3], found {sorted(stored)}.")
    labels = np.zeros(len(images), int) if labels is None else labels
    return images[:number] / 255, labels[:number]
  files = sorted(f for f in place.rglob("*") if f.suffix.lower() in pictures.SUFFIXES)
  if not files:
    raise ValueError(
      f"{place}: expected an .npz file or a folder with {', '.join(pictures.SUFFIXES)} pictures."
    )
  chosen = files[:: max(1, len(files) // number)][:number]
  rows = []
  for file in chosen:
    picture = pictures.open_picture(pictures.read_file(file), place=str(file))
    rows.append(np.asarray(picture.convert("RGB").resize((size, size))))
  folders = sorted({f.parent for f in chosen})
  return np.stack(rows) / 255, np.array([folders.index(f.parent) for f in chosen])


def procedural(seed: int, *, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Makes pictures where none are given."""
  made = augment.mixing_images(jax.random.key(seed + 1), number, size=size)
  return np.asarray(made), np.arange(number) % len(augment.FAMILIES)


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes the sheet; returns the exit code."""
  parser = argparse.ArgumentParser(description="A contact sheet of every augmentation.")
  parser.add_argument("--out", required=True, help="PNG file to write")
  parser.add_argument("--images", default="", help=".npz (uint8 images, labels) or folder")
  parser.add_argument("--number", type=int, default=12, help="pictures per row")
  parser.add_argument("--size", type=int, default=32, help="side in pixels without an .npz")
  parser.add_argument("--zoom", type=int, default=2)
  parser.add_argument(
    "--only", choices=("all", "mixing"), default="all", help="mixing: no policies"
  )
  parser.add_argument("--seed", type=int, default=0)
  given = parser.parse_args(arguments)
  options = {"number": given.number, "size": given.size}
  try:
    if given.only == "mixing":
      rows = mixing_rows(seed=given.seed, **options)
    else:
      found = load(given.images, **options) if given.images else procedural(given.seed, **options)
      rows = rows_of(*found, seed=given.seed)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  sheet = draw(rows, zoom=given.zoom)
  out = pathlib.Path(given.out)
  temporary = out.with_name(f".{out.name}.partial")
  sheet.save(temporary, format="PNG")
  temporary.replace(out)
  print(f"wrote {out}: {sheet.width}x{sheet.height} pixels")
  return 0


if __name__ == "__main__":
  sys.exit(main())
