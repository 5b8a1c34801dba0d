# SPDX-License-Identifier: Apache-2.0
"""What a folder or file is, as far as data go, and the config keys that read it."""

import collections
import dataclasses
import os
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixboost_jax import files, schema
from mixboost_jax.data import arrays, cifar, folders, pictures, records
from mixboost_jax.data.dataset import images_problem, middle_square

LOOKED_AT = 256
"""Pictures of a folder whose size is read, at equal distances."""
_USUAL_SIDE = 224
_RELEASED = re.compile(r"cifar-?100?-(c|p|c-bar)|imagenet-(c|p|r|c-bar)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Found:
  """What lies at a place.

  Attributes:
    words: one line for a person.
    keys: dotted key -> value, with which a config reads it; empty: it is nothing to train on.
    notes: what else there is to know, and what to do about it.
    config: the shipped config that fits it best.
  """

  words: str
  keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
  config: str = "base"

  def __str__(self) -> str:
    """The answer of `mixboost inspect`."""
    lines = [self.words, *self.notes]
    if self.keys:
      keys = (f"--config.{key}={shlex.quote(str(value))}" for key, value in self.keys.items())
      lines.append(f"read it with: mixboost --config={self.config} {' '.join(keys)}")
    return "\n".join(lines)


def inspect(path: pathlib.Path) -> Found:
  """Looks at file names, headers and a sample of pictures; nothing is decoded as a whole.

  Raises:
    ValueError: if there is nothing, or what is there cannot be read.
  """
  path = path.absolute()
  if not path.exists():
    raise ValueError(f"{path}: no such file or folder.")
  for look in (_cifar, _arrays, _records, _others) if path.is_dir() else (_file,):
    if found := look(path):
      return found
  return _tree(path)


def settings_for(place: str | os.PathLike) -> schema.Data:
  """Returns the `data` section that reads a folder or file.

  Raises:
    ValueError: as `inspect`, or if it is nothing to train on.
  """
  found = inspect(pathlib.Path(place).expanduser())
  keys = {key.removeprefix("data."): v for key, v in found.keys.items() if key.startswith("data.")}
  if "dir" not in keys:
    raise ValueError("\n".join([found.words, *found.notes]))
  return schema.Data(**{"name": found.config, **keys, "dir": str(keys["dir"])})


def _file(path: pathlib.Path) -> Found:
  if path.suffix == ".npz":
    return _of_arrays(path, arrays.read_npz(path))
  for name, layout in cifar.LAYOUTS.items():
    if path.name == layout.archive:
      return _of_cifar(name, path, "python archive")
  if path.suffix in (".safetensors", ".pth", ".pt"):
    keys = {"model.weights": path, "model.name": "NAME"}
    return Found(f"{path}: weights in PyTorch layout.", keys, ["NAME: see mixboost list models."])
  raise ValueError(
    f"{path}: expected a folder of pictures, .npz, a CIFAR archive or weights (.safetensors, .pth)."
  )


def _arrays(path: pathlib.Path) -> Found | None:
  names = [name for name in (*arrays.REQUIRED, "class_names") if (path / f"{name}.npy").is_file()]
  if not set(arrays.REQUIRED) <= set(names):
    return None
  return _of_arrays(path, {name: arrays.open_npy(path / f"{name}.npy") for name in names})


def _of_arrays(path: pathlib.Path, content: Mapping[str, np.ndarray]) -> Found:
  if absent := [name for name in arrays.REQUIRED if name not in content]:
    has = ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in content.items())
    raise ValueError(f"{path}: lacks {', '.join(absent)}; it has {has or 'nothing'}.")
  images = content["train_images"]
  images = images[..., None] if images.ndim == 3 else images
  if problem := images_problem(images):
    raise ValueError(f"{path}: train_images: {problem}.")
  num_train, num_test = (len(content[f"{split}_images"]) for split in ("train", "test"))
  height, width, channels = images.shape[1:]
  classes = len(content["class_names"]) if "class_names" in content else _classes(content)
  words = (
    f"{path}: arrays, {num_train:,} training and {num_test:,} test pictures, "
    f"{'grey' if channels == 1 else 'colour'}, {height}x{width}, {classes} classes."
  )
  if height != width:
    square = middle_square(height, width)
    return Found(words, notes=[f"not square, as networks take them; keep a square: {square}"])
  return Found(words, {"data.name": "npz", "data.dir": path, **_for_few(num_train)})


def _classes(content: Mapping[str, np.ndarray]) -> int:
  return int(np.max(content["train_labels"], initial=0)) + 1


def _cifar(path: pathlib.Path) -> Found | None:
  for name, layout in cifar.LAYOUTS.items():
    found = cifar.find(layout, (path,))
    if found and (found.form == "raw" or name in found.path.parts[-2:]):
      return _of_cifar(name, path, {"raw": "python archive"}.get(found.form, found.form))
  return None


def _of_cifar(name: str, path: pathlib.Path, form: str) -> Found:
  layout = cifar.LAYOUTS[name]
  words = f"{path}: {layout.title} ({form}), pictures of 32x32."
  return Found(words, {"data.dir": path}, config=name)


def _records(path: pathlib.Path) -> Found | None:
  candidates = [path, *path.glob("*.*.*"), *path.glob("*/*.*.*"), *path.glob("*/*/*.*.*")]
  known = sorted({place for place in candidates if (place / records.INFO).is_file()})
  if not known:
    return None
  named = {place: str(place.parent.relative_to(path)) for place in known if place != path}
  place = known[-1]
  name = named.get(place, ".")
  name = str(files.read_json(place / records.INFO).get("name", "")) if name == "." else name
  train, test, classes = records.open_splits(place)
  words = (
    f"{path}: TFDS {name} {place.name}, {len(train):,} training and {len(test):,} test pictures, "
    f"{len(classes)} classes."
  )
  others = sorted(set(named.values()) - {name, "."})
  notes = [f"also there: {', '.join(others)}"] if others else []
  return Found(words, {"data.name": "tfds", "data.dir": path, "data.tfds_name": name}, notes)


def _others(path: pathlib.Path) -> Found | None:
  """Looks for published evaluation sets, and run folders."""
  within = [entry.name for entry in path.iterdir() if entry.is_dir()]
  if _RELEASED.fullmatch(path.name) or any(map(_RELEASED.fullmatch, within)):
    parent = path.parent if _RELEASED.fullmatch(path.name) else path
    named = ", ".join(sorted(filter(_RELEASED.fullmatch, [path.name, *within])))
    keys = {"evaluate.released_dir": parent, "evaluate.suite": "standard"}
    return Found(f"{path}: published evaluation sets ({named}).", keys, config="cifar10")
  if (path / "config.json").is_file():
    done = "is measured" if (path / "results.json").is_file() else "is not measured yet"
    go_on = f"mixboost --config=ITS_CONFIG --workdir={shlex.quote(str(path))}"
    return Found(f"{path}: a run folder, which {done}.", notes=[f"go on with: {go_on}"])
  return None


def _tree(path: pathlib.Path) -> Found:
  loose = [entry.name for entry in os.scandir(path) if _is_picture(entry.name)]
  if loose and not any(entry.is_dir() for entry in os.scandir(path)):
    words = f"{path}: {len(loose):,} pictures without classes."
    notes = [
      "to train, put those of each class into a folder of its name: CLASS/FILE",
      "as they are, they can be mixed in (--config.augment.mixing_dir with the word pixmix) or be "
      "what is foreign (--config.evaluate.ood_dirs with the suite ood)",
    ]
    return Found(words, notes=notes)
  train, test, names = folders.list_files(path)
  place = {"data.name": "folder", "data.dir": path}
  sizes, modes = _sample([train, test])
  num = len(train.names)
  words = (
    f"{path}: folders of pictures, {num:,} training and {len(test.names):,} test pictures"
    f"{'' if train.root != path else ' (by a hash of their names)'}, {len(names)} classes "
    f"({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})."
  )
  notes = []
  keys: dict[str, Any] = {**place}
  if len(sizes) > 1 or any(height != width for height, width in sizes):
    short = sorted(min(size) for size in sizes.elements())
    side = min(_USUAL_SIDE, short[len(short) // 2])
    keys["data.image_size"] = max(side // 8 * 8, min(side, 8))
    least, most = _size(min(sizes)), _size(max(sizes))
    seen = f"sizes from {least} to {most}" if len(sizes) > 1 else f"{least}, not square"
    notes.append(f"{seen}: data.image_size resizes all and keeps the middle square")
  else:
    notes.append(f"all {_size(next(iter(sizes)))} (of {sum(sizes.values())} looked at)")
  if grey := modes & {"1", "L", "LA"}:
    notes.append(f"{'some are' if modes - grey else 'all'} grey: they are read as colour")
  few = collections.Counter(train.labels).most_common()[-1]
  if few[1] < 10:
    notes.append(f"class {names[few[0]]!r} has {few[1]} training pictures")
  return Found(words, keys | _for_few(num), notes)


def _for_few(num_train: int) -> dict[str, int]:
  """Returns the batch that a small set needs."""
  usual = schema.Train().batch_size
  if num_train >= usual:
    return {}
  return {"train.batch_size": 2 ** max((max(num_train, 1)).bit_length() - 2, 0)}


def _sample(
  splits: Sequence[folders.Listing],
) -> tuple[collections.Counter[tuple[int, int]], set[str]]:
  """Returns (height, width) -> how many, and the modes, of a sample of pictures."""
  sizes: collections.Counter[tuple[int, int]] = collections.Counter()
  modes: set[str] = set()
  for split in splits:
    rows = np.linspace(0, len(split.names) - 1, min(len(split.names), LOOKED_AT)).astype(int)
    for row in rows:
      file = os.path.join(split.root, split.names[row])
      height, width, mode = pictures.header(file)
      sizes[height, width] += 1
      modes.add(mode)
  return sizes, modes


def _is_picture(name: str) -> bool:
  return name.lower().endswith(pictures.SUFFIXES) and not name.startswith(".")


def _size(size: tuple[int, int]) -> str:
  return f"{size[0]}x{size[1]}"
