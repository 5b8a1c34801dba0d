# SPDX-License-Identifier: Apache-2.0
"""Released ImageNet sets as folders: `.../WNID/FILE`, WNID being a class name such as n01440764.

Classes are numbered by the alphabetical order of the 1,000 wnids, as ImageNet networks number them.
The order of pictures is by a hash of WNID/FILE (any beginning is a fair sample of all classes) and
the same under every corruption. Films of -P come in the order of the pictures they are made of.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mixboost_jax import files
from mixboost_jax.corruptions import SEVERITIES as LEVELS
from mixboost_jax.data import arrays, dataset, pictures
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released.units import (
  SEVERITIES,
  Opened,
  ReleasedUnit,
  Request,
  known,
  units_of,
)

NUM_CLASSES = 1000
RENDITION_CLASSES = 200
CATEGORIES = ("blur", "digital", "extra", "noise", "validation", "weather")
"""Folders that the published archives of ImageNet-C and -P may be extracted into, one each."""
FILMS = (".mp4", ".npy")


def open_corrupted(request: Request) -> Opened:
  """Opens ImageNet-C or ImageNet-C-bar: CORRUPTION/SEVERITY/WNID/FILE."""
  corruptions = _corruption_folders(request)
  places = {
    (name, severity): _severity_folder(request, corruptions[name], name, severity)
    for name, _ in request.wanted
    if name in corruptions
    for severity in SEVERITIES
  }
  first = next((p for p in places.values() if p is not None), None)
  wnids = class_names(request, first)
  for place in places.values():
    if place is not None and wnids:
      _check_classes(request, place, wnids, wnids)
  names_of = _lister(wnids, pictures.SUFFIXES)

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    place = places[unit.corruption, unit.severity]
    assert place is not None  # open_set has raised otherwise
    return _read(place, names_of(place), wnids, request.image_size, start, stop)

  num_rows = len(names_of(first)) if first is not None else 0
  units = units_of(request.wanted, SEVERITIES)
  return Opened(units, load, num_classes=len(wnids), num_rows=num_rows)


def open_renditions(request: Request) -> Opened:
  """Opens ImageNet-R: WNID/FILE with 200 of the 1,000 classes.

  Pictures have all sizes and are cut as ImageNet's test pictures are: resized to 8/7 of the wanted
  side (256 for 224), of which the middle is kept. Labels are numbers among the given wnids: all
  1,000, or these 200 alone.
  """
  root = _inside(request.root, "imagenet-r")
  present = _folders(root)
  request.check.expect(
    bool(request.wnids),
    root,
    expected=f"`wnids`, to know which of {NUM_CLASSES} classes the {len(present)} folders are",
    got="none",
    remedy="give a folder with one sub-folder per wnid (ImageNet's val), a file or a list",
  )
  wnids = class_names(request, None, counts=(NUM_CLASSES, RENDITION_CLASSES))
  unknown = sorted(set(present) - set(wnids)) if wnids else []
  request.check.expect(
    not unknown,
    root,
    expected=f"folders named like the {len(wnids)} wnids",
    got=", ".join(unknown[:3]),
    remedy="remove them, or check that `wnids` is the list of ImageNet-1k",
  )
  request.check.expect(
    len(present) == RENDITION_CLASSES,
    root,
    expected=f"{RENDITION_CLASSES} class folders",
    got=str(len(present)),
    remedy="extract imagenet-r.tar again and point at the folder it makes",
  )
  number = {wnid: i for i, wnid in enumerate(wnids)}
  names_of = _lister(wnids, pictures.SUFFIXES)

  margin = round(request.image_size / 7)

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    del unit
    names = names_of(root)
    return _read(root, names, wnids, request.image_size, start, stop, margin=margin)

  return Opened(
    units=units_of(request.wanted, (0,)),
    load=load,
    num_classes=len(wnids),
    class_indices=tuple(number[wnid] for wnid in present if wnid in number),
    num_rows=len(names_of(root)),
  )


def open_films(request: Request) -> Opened:
  """Opens ImageNet-P: PERTURBATION/WNID/FILM, MP4 files or `.npy` arrays of their frames."""
  corruptions = _corruption_folders(request)
  wnids = class_names(request, next(iter(corruptions.values()), None))
  for place in corruptions.values():
    if wnids:
      _check_classes(request, place, wnids, wnids)
  names_of = _lister(wnids, FILMS)
  num_films = {name: len(names_of(place)) for name, place in corruptions.items()}
  most = max(num_films.values(), default=0)
  for name, count in num_films.items():
    request.check.expect(
      count == most > 0,
      corruptions[name],
      expected=f"{most or 'some'} films ({' or '.join(FILMS)}), as under other perturbations",
      got=str(count),
      remedy="extract the published archive again",
    )

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> np.ndarray:
    place = corruptions[unit.corruption]
    names = names_of(place)[start:stop]
    films = [decode_film(place / name) for name in names]
    lengths = {film.shape for film in films}
    if len(lengths) != 1:
      raise ValueError(
        f"{place}: expected films of one shape, got {sorted(lengths) or 'none'}; extract it again."
      )
    return np.stack(films)

  return Opened(
    units=units_of(request.wanted, (0,)),
    load=load,
    num_classes=len(wnids),
    is_sequences=True,
    num_rows=most,
  )


def class_names(
  request: Request, place: pathlib.Path | None, *, counts: Sequence[int] = ()
) -> tuple[str, ...]:
  """Returns the wnids in alphabetical order, from the request or else from the class folders.

  Args:
    request: of which `wnids` is used.
    place: with class folders, or None.
    counts: how many there may be; empty: 1,000.
  """
  counts = counts or (NUM_CLASSES,)
  given = request.wnids
  if isinstance(given, str | pathlib.Path):
    source = pathlib.Path(given).expanduser()
    if source.is_dir():
      names = _folders(source)
    elif source.is_file():
      names = _words(request, source)
    else:
      request.check.expect(
        False,
        source,
        expected="a folder of class folders, or a file with one wnid per line",
        got="no such file",
        remedy="give the path of ImageNet's validation folder",
      )
      return ()
    place = source
  elif given:
    names = list(given)
  else:
    names = _folders(place) if place is not None else []
  if place is None and not given:
    return ()  # nothing to look into, which has been noted
  request.check.expect(
    len(set(names)) == len(names) and len(names) in counts,
    place or "wnids",
    expected=f"{' or '.join(map(str, counts))} different class names",
    got=f"{len(names)} ({len(set(names))} different)",
    remedy="extract the published archive again, or give `wnids`",
  )
  return tuple(sorted(names))


def _words(request: Request, source: pathlib.Path) -> list[str]:
  try:
    return files.read_bytes(source, limit=2**20).decode().split()
  except (OSError, ValueError) as error:
    request.check.expect(
      False,
      source,
      expected="a text file with one wnid per line",
      got=files.reason(error),
      remedy="give the path of ImageNet's validation folder",
    )
    return []


def _corruption_folders(request: Request) -> dict[str, pathlib.Path]:
  """Finds every wanted corruption and notes those that are missing or do not belong here."""
  root = _inside(request.root, request.title)
  present = {name: root / name for name in _folders(root)}
  for category in CATEGORIES:
    folder = present.pop(category, None)
    if folder is not None:
      present |= {name: folder / name for name in _folders(folder)}
  for name in sorted(set(present) - known(request.kind)):
    request.check.expect(
      False,
      present[name],
      expected=f"only folders of {request.title} ({', '.join(sorted(known(request.kind)))})",
      got=f"a folder called {name!r}",
      remedy="move it elsewhere, or check that the path ends above the corruptions",
    )
  found = {}
  for name, group in request.wanted:
    if request.check.expect(
      name in present,
      root / name,
      expected=f"a folder of the group {group!r}",
      got="no such folder",
      remedy="extract the published archive again, or leave the group out with groups=(...)",
    ):
      found[name] = present[name]
  return found


def _severity_folder(
  request: Request, folder: pathlib.Path, name: str, severity: int
) -> pathlib.Path | None:
  """Returns FOLDER/3, or for C-bar also FOLDER/4.90 (the strength itself)."""
  names = [str(severity)]
  if request.kind == "imagenet_c_bar":
    names.append(f"{LEVELS['imagenet'][name][severity - 1]:.2f}")
  for candidate in names:
    if (folder / candidate).is_dir():
      return folder / candidate
  request.check.expect(
    False,
    folder,
    expected=f"a folder {' or '.join(names)} for severity {severity}",
    got=", ".join(_folders(folder)) or "nothing",
    remedy="extract the published archive again",
  )
  return None


def _check_classes(
  request: Request, place: pathlib.Path, wnids: Sequence[str], wanted: Sequence[str]
) -> None:
  present = set(_folders(place))
  missing, unknown = sorted(set(wanted) - present), sorted(present - set(wnids))
  found = [f"{len(missing)} missing ({missing[0]} ...)"] if missing else []
  found += [f"{len(unknown)} unexpected ({unknown[0]} ...)"] if unknown else []
  request.check.expect(
    not found,
    place,
    expected=f"one folder for each of {len(wanted)} classes",
    got=" and ".join(found),
    remedy="extract the published archive again",
  )


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
  rows = range(len(names))[start:stop]
  if not rows:
    raise ValueError(f"{place}: no pictures in rows {start} to {stop} of {len(names)}.")
  number: Mapping[str, int] = {wnid: i for i, wnid in enumerate(wnids)}
  wanted = names[rows.start : rows.stop]
  images = pictures.read_all(
    lambda part: [pictures.read_file(place / wanted[i]) for i in part],
    len(wanted),
    num_channels=3,
    image_size=image_size,
    name_of=lambda i: str(place / wanted[i]),
    place=str(place),
    margin=margin,
  )
  labels = np.array([number[name.partition("/")[0]] for name in wanted], np.int32)
  return Split(images, labels, np.arange(rows.start, rows.stop, dtype=np.int32))


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


def _inside(root: pathlib.Path, name: str) -> pathlib.Path:
  return root / name if (root / name).is_dir() else root


def decode_film(file: pathlib.Path) -> np.ndarray:
  """Returns uint8[frames, H, W, 3] in RGB.

  Args:
    file: `.npy` (as saved by `numpy.save`), or a film for which `opencv-python-headless` must be
      installed; this package does not ask for it.

  Raises:
    ValueError: if the file is damaged, or it is a film and there is no OpenCV.
  """
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
  while True:
    more, frame = film.read()
    if not more:
      break
    frames.append(frame[..., ::-1])  # stored as BGR
  film.release()
  return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
