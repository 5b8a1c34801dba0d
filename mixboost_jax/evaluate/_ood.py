# SPDX-License-Identifier: Apache-2.0
"""Out-of-distribution sets: drawn here (and named so), or pictures from folders.

Papers: Hendrycks & Gimpel 2017, arXiv:1610.02136; Hendrycks et al. 2019, arXiv:1812.04606, whose
synthetic sets (Gaussian, Rademacher, blobs) these follow. Values are those of [0, 1] pixels.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import augment, files, keys, metrics
from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.data import arrays, dataset, folders, pictures, records
from mixboost_jax.evaluate._examples import Examples, Unit
from mixboost_jax.evaluate._kind import (
  NUM_BINNED_RESAMPLES,
  Curves,
  Family,
  Kind,
  Place,
  bootstrapped,
  metric,
)
from mixboost_jax.evaluate._session import Session
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.image import linear
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.runtime.results import Metric

KNOWN_PER_FOREIGN = 5
"""Known pictures for every foreign one, the ratio on which AUPR depends (arXiv:1812.04606)."""
SCORES = {"confidence": "msp", "max_logit": "max_logit", "negative_energy": "energy"}
"""Column -> name of the score in metrics; higher means known."""


def _gaussian(key: PRNGKey, image: Image) -> Image:
  return 0.5 + 0.25 * jax.random.normal(key, image.shape)


def _rademacher(key: PRNGKey, image: Image) -> Image:
  return jax.random.bernoulli(key, 0.5, image.shape).astype(jnp.float32)


def _blobs(key: PRNGKey, image: Image) -> Image:
  """Smoothed coin tosses, 0 where they are below 0.75."""
  tossed = jax.random.bernoulli(key, 0.7, image.shape).astype(jnp.float32)
  smooth = linear.gaussian_blur_of_width(tossed, sigma=1.5)
  return jnp.where(smooth < 0.75, 0.0, smooth)


def _textures(key: PRNGKey, image: Image) -> Image:
  """Spectral noise of one slope and direction."""
  height, width, channels = image.shape
  drawn = augment.spectral_noise(key, size=max(height, width))[:height, :width]
  return drawn if channels == 3 else jnp.mean(drawn, axis=-1, keepdims=True)


def _shuffled(key: PRNGKey, image: Image) -> Image:
  """The known picture itself, its pixels in another order."""
  pixels = image.reshape(-1, image.shape[-1])
  return jax.random.permutation(key, pixels, axis=0).reshape(image.shape)


SYNTHETIC: dict[str, Callable[[PRNGKey, Image], Image]] = {
  "gaussian": _gaussian,
  "rademacher": _rademacher,
  "blobs": _blobs,
  "textures": _textures,
  "shuffled_pixels": _shuffled,
}
"""`(key, a known picture) -> a foreign picture of its shape`; pixels are then cut to 8 bits."""


def draw_foreign(name: str, ids: jax.Array, images: jax.Array) -> jax.Array:
  """Returns one foreign picture for each known one; it depends on the id of that one only."""
  tag = list(SYNTHETIC).index(name)
  each = keys.example_keys(keys.root_key(0), keys.Stream.EVALUATE, ids, epoch=1 + tag)
  return from_levels(to_levels(jax.vmap(SYNTHETIC[name])(each, images)))


def read_sets(
  places: Sequence[str], *, image_shape: tuple[int, int, int], limit: int
) -> dict[str, np.ndarray]:
  """Reads several sets with `from_folder`, named after their folders or, prepared, as TFDS does."""
  found: dict[str, np.ndarray] = {}
  for place in places:
    path = pathlib.Path(place).expanduser().resolve()
    images = from_folder(place, image_shape=image_shape, limit=limit)
    name = path.stem
    if (path / records.INFO).is_file():
      name = str(files.read_json(path / records.INFO).get("name", name))
    if name in found or name in SYNTHETIC:
      raise ValueError(
        f"evaluate.ood_dirs: {path}: expected a name of its own, got {name!r}, which is also "
        f"{'a synthetic set' if name in SYNTHETIC else 'an earlier folder'}; rename it."
      )
    found[name] = images
  return found


def from_folder(place: str, *, image_shape: tuple[int, int, int], limit: int) -> np.ndarray:
  """Reads foreign pictures, resized to the size of the known ones: uint8[N, H, W, C].

  The place is a folder with picture files at any depth, read in an order that mixes folders; a
  prepared TFDS folder, of which the test split is read; or a `.npy` file of the right size.
  """
  path = pathlib.Path(place).expanduser()
  height, width, channels = image_shape
  if path.suffix == ".npy":
    return _from_array(path, image_shape, limit)
  if (path / records.INFO).is_file():
    return _from_records(path, image_shape, limit)
  found = [file for file in path.rglob("*") if file.suffix.lower() in pictures.SUFFIXES]
  if not found or height != width:
    got = "no picture files" if not found else f"known pictures of {height}x{width}"
    raise ValueError(
      f"evaluate.ood_dirs: {path}: expected a folder of {', '.join(pictures.SUFFIXES)} files"
      f" and square known pictures, got {got}."
    )
  named = {file.relative_to(path).as_posix(): file for file in found}
  chosen = [named[name] for name in dataset.shuffled(list(named))[:limit]]
  return folders.read_pictures(chosen, num_channels=channels, image_size=height, place=str(path))


def _from_records(
  folder: pathlib.Path, image_shape: tuple[int, int, int], limit: int
) -> np.ndarray:
  height, width, channels = image_shape
  if height != width:
    raise ValueError(
      f"evaluate.ood_dirs: {folder}: expected square known pictures to resize to, got "
      f"{height}x{width}; give an .npy file instead."
    )
  part, _ = records.open_split(folder, *records.TEST_SPLITS, "train", image_size=height)
  images = part.part(0, limit).in_memory(place=str(folder)).images
  if images.shape[-1] not in (1, channels):
    raise ValueError(
      f"evaluate.ood_dirs: {folder}: expected {channels} channels, got {images.shape[-1]}."
    )
  return np.repeat(np.asarray(images), channels // images.shape[-1], axis=-1)


def _from_array(path: pathlib.Path, image_shape: tuple[int, ...], limit: int) -> np.ndarray:
  try:
    images = arrays.open_npy(path)
  except ValueError as error:
    raise ValueError(f"evaluate.ood_dirs: {error}") from error
  if images.dtype != np.uint8 or images.shape[1:] != image_shape or not len(images):
    raise ValueError(
      f"evaluate.ood_dirs: {path}: expected uint8[N, {', '.join(map(str, image_shape))}], got "
      f"{images.dtype}{list(images.shape)}."
    )
  return np.array(images[:limit])


def ood(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores foreign pictures; what the network says about classes does not matter."""
  if unit.member in session.foreign_sets:
    images = session.foreign_sets[unit.member][start:stop]
    count = np.arange(start, start + len(images), dtype=np.int32)
    part = Examples(images, np.zeros_like(count), count, unit.member, "test", "files")
    return _ood_columns(session.scorer(session.variables, part))
  part = session.part(start, stop)
  draw = functools.partial(draw_foreign, unit.member)
  program = session.drawing(unit, lambda: session.over_devices(draw))
  scores = session.scorer(session.variables, part, change=lambda ids, x, _: program(ids, x))
  return _ood_columns(scores)


def _ood_columns(scores: Any) -> Columns:
  return {name: np.asarray(getattr(scores, name)) for name in SCORES}


def _statistics(known: np.ndarray, foreign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns `metrics.DETECTION` in % of two independent samples, and replicates [R, :]."""
  draws, others = (
    metrics.resample(len(one), num_resamples=NUM_BINNED_RESAMPLES).counts
    for one in (known, foreign)
  )
  known, foreign = np.sort(known), np.sort(foreign)
  samples = (
    (np.repeat(known, a), np.repeat(foreign, b)) for a, b in zip(draws, others, strict=True)
  )
  value, *replicates = (
    100 * np.array([function(*pair) for function in metrics.DETECTION.values()])
    for pair in ((known, foreign), *samples)
  )
  return value, np.stack(replicates)


def summarise(
  place: Place, known: Columns, sets: Mapping[str, Columns], *, sources: Mapping[str, str]
) -> list[Metric]:
  """Returns every statistic of every score for each set, then the means over sets.

  Each set also gets `known_per_foreign`, the ratio at which its AUPR holds: `KNOWN_PER_FOREIGN` as
  in published tables, or more if a set has too few pictures for that. `place` names the known
  pictures; `sources` says of every foreign set where it comes from.
  """
  found: list[Metric] = []
  for column, score in SCORES.items():
    all_values, all_spreads = [], []
    for name, columns in sets.items():
      values, spreads = _statistics(known[column], columns[column])
      all_values.append(values)
      all_spreads.append(spreads)
      own = place._replace(dataset=f"{place.dataset}-ood-{name}", source=sources[name])
      found += _metrics(own, score, values, spreads, len(columns[column]))
      if column == "confidence":
        options = {"count": len(columns[column]), "unit": "", "better": "none"}
        ratio = len(known[column]) / len(columns[column])
        found.append(metric(own, "known_per_foreign", ratio, **options))
    kinds = sorted({sources[name] for name in sets})
    if len(sets) > 1 and len(kinds) == 1:  # sets of different sources are never averaged
      own = place._replace(dataset=f"{place.dataset}-ood", source=kinds[0])
      count = sum(len(columns[column]) for columns in sets.values())
      mean, spread = np.mean(all_values, axis=0), np.mean(all_spreads, axis=0)
      found += _metrics(own, score, mean, spread, count)
  order = [f"{place.dataset}-ood", *(f"{place.dataset}-ood-{name}" for name in sets)]
  return sorted(found, key=lambda one: order.index(one.dataset))


def _metrics(
  place: Place, score: str, values: np.ndarray, spreads: np.ndarray, count: int
) -> list[Metric]:
  found = []
  for name, value, spread in zip(metrics.DETECTION, values, spreads.T, strict=True):
    better = "lower" if name.startswith("fpr") else "higher"
    options = {"count": count, "better": better}
    found.append(bootstrapped(place, f"{name}_{score}", float(value), spread, **options))
  return found


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  if family.clean is None:
    raise ValueError("evaluate: suite: 'ood' compares with the known pictures; add the word clean.")
  sets = {unit.member: values for unit, values in family.columns.items()}
  read = family.session.foreign_sets
  sources = {name: "files" if name in read else "synthetic" for name in sets}
  return summarise(family.place, family.clean, sets, sources=sources), {}


def _count(session: Session, unit: Unit, size: int, num_clean: int) -> int:
  """Follows from how many known pictures the foreign ones meet."""
  wanted = max(min(size, num_clean) // KNOWN_PER_FOREIGN, 1)
  return min(wanted, len(session.foreign_sets.get(unit.member, range(wanted))))


OOD = Kind(
  words=lambda large, foreign_sets: {"ood": (*SYNTHETIC, *foreign_sets)},
  measure=ood,
  aggregate=_aggregate,
  own_pictures=lambda session, unit: session.foreign_sets.get(unit.member),
  count=_count,
  definition=lambda session, unit: KNOWN_PER_FOREIGN,
  suffix=lambda word: "",
)
