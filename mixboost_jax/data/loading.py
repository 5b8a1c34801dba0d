# SPDX-License-Identifier: Apache-2.0
"""`load`: from the `data` section of a config to a data set in host memory."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from mixboost_jax import files, registry, schema
from mixboost_jax.data import (
  arrays,
  cifar,
  download,
  folders,
  inspection,
  pictures,
  places,
  records,
  shapes,
)
from mixboost_jax.data.dataset import Dataset, Split, assemble, num_wanted

SHAPES_TRAIN = 10_000
"""Training examples of `shapes` if the config asks for all."""
SHAPES_TEST = 2_000
"""Test examples of `shapes` if the config asks for all."""
SHAPES_TEST_IDS = 2**24
"""First id of the test split of `shapes`; ids below belong to training and validation."""
SHAPES_VARIANTS = {"agreeing": None, "neutral": 0.1, "conflicting": 0.0}
"""Texture agreement of the test variants; None: as in training."""


def load(settings: schema.Data | str | os.PathLike) -> Dataset:
  """Reads (or draws) the data set of the resolved `data` section, of a name, or at a place.

  ```python
  pictures, classes = np.uint8((255 * images).round()), np.asarray(labels)
  train, test = ({f"{s}_images": pictures, f"{s}_labels": classes} for s in ("train", "test"))
  np.savez("mine.npz", **train, **test)
  dataset = data.load("mine.npz")  # or "shapes", "cifar10", "~/pictures"
  ```

  Raises:
    ValueError: if the data is missing, damaged, too large, or not what the config says; the
      message names the place and the remedy. Files that stay where they are (`data.stream`) may
      prove damaged later, with the same message.
  """
  if not isinstance(settings, schema.Data):
    named = str(settings) in READERS
    settings = schema.Data(name=str(settings)) if named else inspection.settings_for(settings)
  dataset = registry.lookup(READERS, settings.name, field="config.data.name")(settings)
  if not settings.outliers:
    return dataset
  if dataset.is_streamed:
    raise ValueError(
      f"config.data.outliers={settings.outliers}: pictures of {dataset.title} stay in their files, "
      "where none can be changed; use config.data.stream=off, or no outliers."
    )
  noise, num_classes = settings.outlier_noise, dataset.num_classes
  train = plant_outliers(dataset.train, num=settings.outliers, noise=noise, num_classes=num_classes)
  return dataclasses.replace(dataset, train=train)


def load_shapes_variant(settings: schema.Data, variant: str) -> Split:
  """Draws the test split of `shapes` with another relation of texture and class.

  The pictures have the ids of the ordinary test split and differ from it in the fill pattern only.

  ```python
  from mixboost_jax import schema
  split = data.load_shapes_variant(schema.Data(test_examples=20), "conflicting")
  ```

  Args:
    settings: of which `texture_agreement` and `test_examples` count.
    variant: "agreeing" (as trained), "neutral" (texture carries no information) or "conflicting"
      (never the texture of the class).
  """
  agreement = registry.lookup(SHAPES_VARIANTS, variant, field="variant of shapes")
  agreement = settings.texture_agreement if agreement is None else agreement
  count = settings.test_examples or SHAPES_TEST
  return shapes.generate(_ids(SHAPES_TEST_IDS, count), texture_agreement=agreement)


def _ids(start: int, count: int) -> np.ndarray:
  return np.arange(start, start + count, dtype=np.int32)


def _load_shapes(settings: schema.Data) -> Dataset:
  _fixed_size(settings, shapes.SIZE, shapes.SIZE)
  count = settings.train_examples or SHAPES_TRAIN
  shape = (shapes.SIZE, shapes.SIZE, 3)
  for examples in (count, settings.test_examples):
    pictures.check_size(examples, shape, place="the procedural set")
  return assemble(
    name="shapes",
    title="Shapes (procedural)",
    source="procedural",
    class_names=shapes.CLASS_NAMES,
    train=shapes.generate(_ids(0, count), texture_agreement=settings.texture_agreement),
    test=load_shapes_variant(settings, "agreeing"),
    validation_examples=settings.validation_examples,
  )


def _load_cifar(settings: schema.Data) -> Dataset:
  layout = cifar.LAYOUTS[settings.name]
  _fixed_size(settings, cifar.SIZE, cifar.SIZE)
  found = cifar.find(layout, places.places_of(settings))
  if found is None and settings.download:
    target = places.download_place(settings) / layout.archive
    fetched = download.fetch(layout.url, target, md5=layout.md5, progress=download.show_progress)
    found = cifar.Found("raw", fetched)
  if found is None:
    raise places.missing(
      settings,
      title=layout.title,
      looked_for=cifar.looked_for(layout),
      remedies=(
        "fetch the official archive: --config.data.download=True, or python -m "
        f"mixboost_jax.data.prepare {layout.name} --download --out={places.user_cache()}",
        f"use a copy: python -m mixboost_jax.data.prepare {layout.name} --source=DIR_OR_ARCHIVE "
        "--out=DIR, then --config.data.dir=DIR; or --config.data.dir=DIR_OR_ARCHIVE at once",
      ),
    )
  if found.form == "raw":
    train, test, names = cifar.read(found.path, layout)
  else:
    read = arrays.read if found.form == "arrays" else records.open_splits
    train, test, names = read(found.path)
  if len(names) != layout.num_classes or train.images.shape[1:] != (cifar.SIZE, cifar.SIZE, 3):
    raise ValueError(
      f"{found.path}: expected {layout.num_classes} classes of {cifar.SIZE}x{cifar.SIZE}x3 "
      f"pictures, got {len(names)} of {list(train.images.shape[1:])}; this is not {layout.title}."
    )
  train, test = (split.in_memory(place=str(found.path)) for split in (train, test))
  official = _is_official(found, layout, train, test)
  note = cifar.note_of(layout, train, test, official=official)
  return _from_files(settings, layout.title, train, test, names, path=found.path, note=note)


def _is_official(
  found: cifar.Found, layout: cifar.Layout, train: Split, test: Split
) -> bool | None:
  """Whether a copy is the published set; None if nothing beside it says so."""
  if found.form == "raw":
    return cifar.is_official(found.path, layout)
  seal = found.path / cifar.SEAL
  if not seal.is_file():
    return None
  if files.read_bytes(seal, limit=2**10).strip() != cifar.seal(train, test).encode():
    raise ValueError(
      f"{found.path}: pictures or labels differ from the official ones that {cifar.SEAL} stands "
      "for; damaged? Prepare it again."
    )
  return True


def _load_tfds(settings: schema.Data) -> Dataset:
  folder = records.find(settings.tfds_name, places.places_of(settings))
  if folder is None:
    raise places.missing(
      settings,
      title=settings.tfds_name,
      looked_for=(
        "NAME[/CONFIG]/VERSION/dataset_info.json of a TFDS set prepared as array_record "
        f"(config.data.tfds_name={settings.tfds_name!r})",
      ),
      remedies=(
        "prepare it where TensorFlow is installed: tfds build NAME --file_format=array_record "
        "--data_dir=DIR",
        "or from pictures: python -m mixboost_jax.data.prepare folder --source=DIR --out=DIR "
        "--name=NAME",
      ),
    )
  splits = records.open_splits(folder, **_sizes(settings))
  return _from_files(settings, settings.tfds_name, *splits, path=folder)


def _load_folder(settings: schema.Data) -> Dataset:
  (path,) = places.places_of(settings)
  if not path.is_dir():
    raise places.missing(
      settings,
      title="Picture folder",
      looked_for=("train/CLASS/FILE with test/CLASS/FILE, or CLASS/FILE (.png, .jpg, ...)",),
      remedies=("give an existing folder: --config.data.dir=DIR",),
    )
  splits = folders.open_splits(path, **_sizes(settings))
  return _from_files(settings, path.name, *splits, path=path)


def _sizes(settings: schema.Data) -> dict[str, int]:
  return {"image_size": settings.image_size, "test_margin": settings.test_margin}


def _load_arrays(settings: schema.Data) -> Dataset:
  (path,) = places.places_of(settings)
  if not path.exists():
    raise places.missing(
      settings,
      title="Arrays",
      looked_for=(f".npz or folder of .npy with {', '.join(arrays.REQUIRED)}",),
      remedies=("give an existing file or folder: --config.data.dir=FILE.npz",),
    )
  train, test, names = arrays.read(
    path, train_examples=settings.train_examples, test_examples=settings.test_examples
  )
  _fixed_size(settings, *train.images.shape[1:3])
  return _from_files(settings, path.stem, train, test, names, path=path)


def _from_files(
  settings: schema.Data,
  title: str,
  train: Split,
  test: Split,
  class_names: tuple[str, ...],
  *,
  path: pathlib.Path,
  note: str = "",
) -> Dataset:
  note = settings.note or note
  splits = []
  for split, field, what in (
    (train, "train_examples", "training"),
    (test, "test_examples", "test"),
  ):
    place = f"{path}, {what} split"
    part = split.part(0, num_wanted(len(split), getattr(settings, field), field=field, place=place))
    splits.append((part, place))
  small = all(pictures.fits(len(part), part.images.shape[1:]) for part, _ in splits)
  if settings.stream == "off" or (settings.stream == "auto" and small):
    splits = [(part.in_memory(place=place), place) for part, place in splits]
  return assemble(
    name=f"{settings.name} ({note})" if note else settings.name,
    title=f"{title} ({note})" if note else title,
    source="files",
    class_names=class_names,
    train=splits[0][0],
    test=splits[1][0],
    validation_examples=settings.validation_examples,
    place=str(path),
  )


def _fixed_size(settings: schema.Data, height: int, width: int) -> None:
  """Refuses to resize what is not resized."""
  size = settings.image_size
  if size and (height, width) != (size, size):
    raise ValueError(
      f"config.data.image_size={size}: {settings.name} has pictures of {height}x{width} pixels "
      "and is not resized; leave it 0."
    )


def outlier_rows(num_examples: int, *, num: int) -> Int[np.ndarray, " num"]:
  """Returns which training rows are outliers; those of a larger `num` contain a smaller one's."""
  if num > num_examples:
    raise ValueError(
      f"config.data.outliers={num}: more than the {num_examples} pictures to train on."
    )
  return np.random.default_rng(0).permutation(num_examples)[:num]


def plant_outliers(split: Split, *, num: int, noise: float, num_classes: int) -> Split:
  """Returns the split with noise on `num` pictures and a random wrong label for each.

  That shows what a network remembers pictures by.

  Paper: Cheng et al. 2021, arXiv:2106.10938, Sec. 4 (50 to 300 pictures with negligible noise and
  random labels).
  Deviation: the paper's labels are random; here never the true one, so that all are outliers.
  `noise` is the standard deviation of what is added, in units of [0, 1].
  """
  chosen = outlier_rows(len(split), num=num)
  images, labels = np.array(split.images), np.array(split.labels)
  for row in chosen:
    draw = np.random.default_rng((1, int(split.ids[row])))
    noisy = images[row] + 255 * noise * draw.normal(size=images.shape[1:])
    images[row] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    labels[row] = (labels[row] + draw.integers(1, num_classes)) % num_classes
  return Split(images, labels, split.ids)


READERS: dict[str, Callable[[schema.Data], Dataset]] = {
  "shapes": _load_shapes,
  "cifar10": _load_cifar,
  "cifar100": _load_cifar,
  "tfds": _load_tfds,
  "folder": _load_folder,
  "npz": _load_arrays,
}
"""By `config.data.name`."""
