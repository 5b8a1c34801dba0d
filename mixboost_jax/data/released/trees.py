# SPDX-License-Identifier: Apache-2.0
"""Released ImageNet sets as folders: `.../WNID/FILE`, WNID being a class name such as n01440764.

Classes are numbered by the alphabetical order of the 1,000 wnids, as ImageNet networks number them.
The order of pictures is by a hash of WNID/FILE (any beginning is a fair sample of all classes) and
the same under every corruption. Films of -P come in the order of the pictures they are made of.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from mixboost_jax import files
from mixboost_jax.corruptions import SEVERITIES as LEVELS
from mixboost_jax.data import arrays, dataset, folders, pictures
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released.units import (
  AGAIN,
  SEVERITIES,
  ReleasedSet,
  ReleasedUnit,
  Request,
  units_of,
)

NUM_CLASSES = 1000
RENDITION_CLASSES = 200
CATEGORIES = ("blur", "digital", "extra", "noise", "validation", "weather")
"""Folders that the published archives of ImageNet-C and -P may be extracted into, one each."""
FILMS = (".mp4", ".npy")


def open_corrupted(request: Request) -> ReleasedSet:
  """Opens ImageNet-C or ImageNet-C-bar: CORRUPTION/SEVERITY/WNID/FILE."""
  corruptions = _corruption_folders(request)
  found = {
    (name, severity): _severity_folder(request, corruptions[name], name, severity)
    for name, _ in request.wanted
    if name in corruptions
    for severity in SEVERITIES
  }
  places = {unit: place for unit, place in found.items() if place is not None}
  first = next(iter(places.values()), None)
  wnids = class_names(request, first)
  for place in places.values():
    _check_classes(request, place, wnids)
  names_of = _lister(wnids, pictures.SUFFIXES)

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    place = places[unit.corruption, unit.severity]
    return _read(place, names_of(place), wnids, request.image_size, start, stop)

  num_rows = len(names_of(first)) if first is not None else 0
  units = units_of(request.wanted, SEVERITIES)
  return ReleasedSet(request.kind, request.title, units, read, len(wnids), num_rows)


def open_renditions(request: Request) -> ReleasedSet:
  """Opens ImageNet-R: WNID/FILE with 200 of the 1,000 classes.

  Pictures have all sizes and are cut as ImageNet's test pictures are: resized to 8/7 of the wanted
  side (256 for 224), of which the middle is kept. Labels are numbers among the given wnids: all
  1,000, or these 200 alone.
  """
  root = request.inside("imagenet-r")
  present = _folders(root)
  wanted = f"`wnids`, to know which of {NUM_CLASSES} classes the {len(present)} folders are"
  remedy = "give a folder with one sub-folder per wnid (ImageNet's val), a file or a list"
  request.expect(bool(request.wnids), root, wanted, "none", remedy)
  wnids = class_names(request, None, counts=(NUM_CLASSES, RENDITION_CLASSES))
  unknown = sorted(set(present) - set(wnids)) if wnids else []
  wanted = f"folders named like the {len(wnids)} wnids"
  remedy = "remove them, or check that `wnids` is the list of ImageNet-1k"
  request.expect(not unknown, root, wanted, ", ".join(unknown[:3]), remedy)
  wanted = f"{RENDITION_CLASSES} class folders"
  remedy = "extract imagenet-r.tar again and point at the folder it makes"
  request.expect(len(present) == RENDITION_CLASSES, root, wanted, len(present), remedy)
  names_of = _lister(wnids, pictures.SUFFIXES)

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    del unit
    size = request.image_size
    return _read(root, names_of(root), wnids, size, start, stop, margin=round(size / 7))

  return ReleasedSet(
    request.kind,
    request.title,
    units_of(request.wanted, (0,)),
    read,
    num_classes=len(wnids),
    num_rows=len(names_of(root)),
    class_indices=tuple(wnids.index(wnid) for wnid in present if wnid in wnids),
  )


def open_films(request: Request) -> ReleasedSet:
  """Opens ImageNet-P: PERTURBATION/WNID/FILM, MP4 files or `.npy` arrays of their frames."""
  corruptions = _corruption_folders(request)
  wnids = class_names(request, next(iter(corruptions.values()), None))
  for place in corruptions.values():
    _check_classes(request, place, wnids)
  names_of = _lister(wnids, FILMS)
  counts = {place: len(names_of(place)) for place in corruptions.values()}
  most = max(counts.values(), default=0)
  wanted = f"{most or 'some'} films ({' or '.join(FILMS)}), as under other perturbations"
  for place, count in counts.items():
    request.expect(count == most > 0, place, wanted, count)

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> np.ndarray:
    place = corruptions[unit.corruption]
    films = [decode_film(place / name) for name in names_of(place)[start:stop]]
    lengths = {film.shape for film in films}
    if len(lengths) != 1:
      raise ValueError(
        f"{place}: expected films of one shape, got {sorted(lengths) or 'none'}; extract it again."
      )
    return np.stack(films)

  units = units_of(request.wanted, (0,))
  return ReleasedSet(
    request.kind, request.title, units, read, len(wnids), num_rows=most, is_sequences=True
  )


def class_names(
  request: Request, place: pathlib.Path | None, *, counts: Sequence[int] = ()
) -> tuple[str, ...]:
  """Returns the wnids in alphabetical order, from the request or else from the class folders.

  There may be `counts` of them (none: 1,000); `place` has the class folders, if there is one.
  """
  given, counts = request.wnids, counts or (NUM_CLASSES,)
  if isinstance(given, str | pathlib.Path):
    place = pathlib.Path(given).expanduser()
    names = _folders(place) if place.is_dir() else _words(request, place)
    if names is None:
      return ()
  elif given or place is None:
    names = list(given)
  else:
    names = _folders(place)
  if place is None and not given:
    return ()  # nothing to look into, which has been noted
  fine = len(set(names)) == len(names) and len(names) in counts
  wanted = f"{' or '.join(map(str, counts))} different class names"
  got, remedy = f"{len(names)} ({len(set(names))} different)", f"{AGAIN}, or give `wnids`"
  request.expect(fine, place or "wnids", wanted, got, remedy)
  return tuple(sorted(names))


def _words(request: Request, source: pathlib.Path) -> list[str] | None:
  """Returns the words of a file; None after noting that it cannot be read."""
  try:
    return files.read_bytes(source, limit=2**20).decode().split()
  except (OSError, ValueError) as error:
    wanted = "a folder of class folders, or a text file with one wnid per line"
    remedy = "give the path of ImageNet's validation folder"
    request.expect(False, source, wanted, files.reason(error), remedy)
    return None


def _corruption_folders(request: Request) -> dict[str, pathlib.Path]:
  """Finds every wanted corruption and notes those that are missing or do not belong here."""
  root = request.inside()
  present = {name: root / name for name in _folders(root)}
  for category in CATEGORIES:
    folder = present.pop(category, None)
    if folder is not None:
      present |= {name: folder / name for name in _folders(folder)}
  request.expect_content(root, present, "a folder")
  return {name: present[name] for name, _ in request.wanted if name in present}


def _severity_folder(
  request: Request, folder: pathlib.Path, name: str, severity: int
) -> pathlib.Path | None:
  """Returns FOLDER/3, or for C-bar also FOLDER/4.90 (the strength itself)."""
  names = [str(severity)]
  if request.kind == "imagenet_c_bar":
    names.append(f"{LEVELS['imagenet'][name][severity - 1]:.2f}")
  found = next((folder / one for one in names if (folder / one).is_dir()), None)
  wanted = f"a folder {' or '.join(names)} for severity {severity}"
  request.expect(found is not None, folder, wanted, ", ".join(_folders(folder)) or "nothing")
  return found


def _check_classes(request: Request, place: pathlib.Path, wnids: Sequence[str]) -> None:
  if not wnids:
    return  # which has been noted
  present, wanted = set(_folders(place)), set(wnids)
  differ = {"missing": sorted(wanted - present), "unexpected": sorted(present - wanted)}
  got = [f"{len(names)} {what} ({names[0]} ...)" for what, names in differ.items() if names]
  wanted = f"one folder for each of {len(wnids)} classes"
  request.expect(not got, place, wanted, " and ".join(got))


def _read(
  place: pathlib.Path,
  names: Sequence[str],
  wnids: Sequence[str],
  image_size: int,
  start: int,
  stop: int | None,
  *,
  margin: int = 0,
) -> Split:
  some = tuple(names[start:stop])
  if not some:
    raise ValueError(f"{place}: no pictures in rows {start} to {stop} of {len(names)}.")
  number = {wnid: i for i, wnid in enumerate(wnids)}
  labels = tuple(number[name.partition("/")[0]] for name in some)
  split = folders.open_listing(folders.Listing(place, some, labels), image_size, margin)
  return dataclasses.replace(split.in_memory(place=str(place)), ids=split.ids + np.int32(start))


def _lister(wnids: Sequence[str], suffixes: Sequence[str]) -> Callable[[pathlib.Path], list[str]]:
  """Returns `_names` with a memory: a folder of 50,000 files is read in many small parts."""
  return functools.lru_cache(maxsize=16)(lambda place: _names(place, wnids, suffixes))


def _names(place: pathlib.Path, wnids: Sequence[str], suffixes: Sequence[str]) -> list[str]:
  found = [
    f"{wnid}/{file.name}"
    for wnid in wnids
    if (place / wnid).is_dir()
    for file in (place / wnid).iterdir()
    if file.suffix.lower() in suffixes and not file.name.startswith(".")
  ]
  if suffixes is not FILMS:
    return dataset.shuffled(found)
  pictures_of = {f"{name.rpartition('.')[0]}.JPEG": name for name in found}
  return [pictures_of[name] for name in dataset.shuffled(list(pictures_of))]


def _folders(place: pathlib.Path) -> list[str]:
  if not place.is_dir():
    return []
  return sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def decode_film(file: pathlib.Path) -> np.ndarray:
  """Returns uint8[frames, H, W, 3] in RGB of an `.npy` file or, where OpenCV is, of a film."""
  frames = arrays.open_npy(file) if file.suffix.lower() == ".npy" else _video(file)
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
    raise ValueError(
      f"{file}: expected uint8[2 or more frames, H, W, 3], got {frames.dtype}{list(frames.shape)}; "
      "extract the published archive again."
    )
  return np.array(frames)


def _video(file: pathlib.Path) -> np.ndarray:
  try:
    import cv2  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ValueError(
      f"{file}: expected OpenCV to decode films, got none; pip install opencv-python-headless, or "
      "convert each film to an .npy array uint8[frames, H, W, 3] beside it."
    ) from error
  film = cv2.VideoCapture(str(file))
  frames = []
  while (read := film.read())[0]:
    frames.append(read[1][..., ::-1])  # stored as BGR
  film.release()
  return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
