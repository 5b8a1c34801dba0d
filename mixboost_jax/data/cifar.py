# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 from the python archives, extracted or not.

The archives hold pickles, which are read without running what else a pickle may contain: only plain
Python values and numeric arrays can come out. Every other name that a file asks for is refused, so
a tampered archive cannot start a program.
"""

import dataclasses
import gzip
import hashlib
import io
import pathlib
import pickle
import pickletools
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import files
from mixboost_jax.data.dataset import Split, as_text, make_split

SIZE = 32
SEAL = "official.sha256"
"""Beside a prepared copy of the official archive: a checksum of its pictures and labels."""
ARRAYS = "train_images.npy"
RECORDS = "dataset_info.json"
MAX_BYTES = 2**28
"""No known archive unpacks to more than 178 MiB; a larger one is not what it claims to be."""
_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one of the two archives is built, and the MD5 sums of the published files."""

  name: str
  title: str
  folder: str
  archive: str
  url: str
  md5: str
  names_key: str
  labels_key: str
  num_classes: int
  checksums: Mapping[str, str]
  """Of the training files, the test file and the file of class names, in this order."""
  num_train: int = 50_000
  num_test: int = 10_000

  @property
  def files(self) -> tuple[tuple[str, ...], str, str]:
    """Names of the training files, of the test file and of the one of class names."""
    *train, test, meta = self.checksums
    return tuple(train), test, meta


LAYOUTS = {
  "cifar10": Layout(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    names_key="label_names",
    labels_key="labels",
    num_classes=10,
    checksums={
      "data_batch_1": "c99cafc152244af753f735de768cd75f",
      "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
      "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
      "data_batch_4": "634d18415352ddfa80567beed471001a",
      "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
      "test_batch": "40351d587109b95175f43aff81a1287e",
      "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
  ),
  "cifar100": Layout(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    names_key="fine_label_names",
    labels_key="fine_labels",
    num_classes=100,
    checksums={
      "train": "16019d7e3df5f24257cddd939b257f8d",
      "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
      "meta": "7973b15100ade9c7d40fb424638fde48",
    },
  ),
}


def read(path: pathlib.Path, layout: Layout) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads both splits and the class names (for CIFAR-100 the fine ones).

  `path` is the extracted folder itself, or the .tar.gz. A ValueError names the file at fault.
  """
  train_files, test_file, meta_file = layout.files
  names: tuple[str, ...] = ()
  parts: dict[str, Split] = {}
  for file, raw in _read_files(path, layout.folder, list(layout.checksums)):
    content = load_dict(raw, place=f"{path}: {file}")
    if file == meta_file:
      names = _class_names(content, layout, place=f"{path}: {file}")
    else:
      parts[file] = _rows(content, layout, place=f"{path}: {file}")
  images, labels = (
    np.concatenate([getattr(parts[file], what) for file in train_files])
    for what in ("images", "labels")
  )
  train = Split(images, labels, np.arange(len(labels), dtype=np.int32))
  return train, parts[test_file], names


def is_official(path: pathlib.Path, layout: Layout) -> bool:
  """Whether a folder or archive is, byte for byte, what the authors publish."""
  if not path.is_dir():
    return md5_of(path) == layout.md5
  files = [(path / name, md5) for name, md5 in layout.checksums.items()]
  return all(file.is_file() and md5_of(file) == md5 for file, md5 in files)


def seal(train: Split, test: Split) -> str:
  """Returns a checksum of all pictures and labels, whatever form they are stored in."""
  digest = hashlib.sha256()
  for split in (train, test):
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, np.int32).data)
  return digest.hexdigest()


def note_of(layout: Layout, train: Split, test: Split, *, official: bool | None) -> str:
  """Returns what must be said about a copy wherever it is named; "" for the published set itself.

  `official`: whether checksums say that it is what the authors publish; None if there are none.
  """
  if (len(train), len(test)) != (layout.num_train, layout.num_test):
    return f"copy with {len(train)} training and {len(test)} test pictures"
  return {True: "", False: "unofficial copy", None: "unverified copy"}[official]


def _value(content: dict[str, Any], key: str, *, place: str) -> Any:
  if key not in content:
    raise ValueError(f"{place}: lacks {key!r}, has {', '.join(map(repr, sorted(content)))}.")
  return content[key]


def _class_names(content: dict[str, Any], layout: Layout, *, place: str) -> tuple[str, ...]:
  raw = _value(content, layout.names_key, place=place)
  names = [as_text(n, place=place) for n in raw] if isinstance(raw, list) else []
  if len(names) != layout.num_classes or not all(isinstance(n, str) for n in names):
    raise ValueError(
      f"{place}: expected {layout.num_classes} names in {layout.names_key!r}, got {len(names)}."
    )
  return tuple(names)


def _rows(content: dict[str, Any], layout: Layout, *, place: str) -> Split:
  rows = np.asarray(_value(content, "data", place=place))
  labels = _value(content, layout.labels_key, place=place)
  width = 3 * SIZE * SIZE
  if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
    raise ValueError(
      f"{place}: expected 'data' as uint8[N, {width}] (red, green, blue planes of {SIZE}x{SIZE}), "
      f"got {rows.dtype}{list(rows.shape)}."
    )
  images = rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
  return make_split(images, labels, num_classes=layout.num_classes, place=place)


class Found(NamedTuple):
  """A form ("raw", "arrays" or "records") and the file or folder to read."""

  form: str
  path: pathlib.Path


def find(layout: Layout, places: tuple[pathlib.Path, ...]) -> Found | None:
  """Returns the first copy, or None."""
  return next((found for place in places for found in _copies(layout, place)), None)


def looked_for(layout: Layout) -> tuple[str, ...]:
  """Returns the forms in words."""
  return (
    f"{layout.folder}/ (the extracted archive), or that folder itself",
    f"{layout.archive}, or that file itself",
    f"{layout.name}/ as written by mixboost_jax.data.prepare, or TFDS array_record",
  )


def _copies(layout: Layout, path: pathlib.Path) -> Iterator[Found]:
  if path.is_file():
    yield Found("raw", path)
    return
  (first, *_), _, meta = layout.files
  own = (path / meta).is_file() and (path / first).is_file()
  if own or (path.name == layout.folder and path.is_dir()):
    yield Found("raw", path)
  if (path / layout.folder).is_dir():
    yield Found("raw", path / layout.folder)
  if (path / layout.archive).is_file():
    yield Found("raw", path / layout.archive)
  for folder in (path, path / layout.name):
    if (folder / ARRAYS).is_file():
      yield Found("arrays", folder)
    for info in [folder / RECORDS, *sorted(folder.glob(f"[0-9]*/{RECORDS}"), reverse=True)]:
      if info.is_file():
        yield Found("records", info.parent)


class _ArrayType:
  """Stands for numpy.ndarray, which files name but which none has a reason to call."""


def _array(kind: object, shape: object, typecode: object) -> np.ndarray:
  """The empty array that numpy's own loader fills afterwards."""
  del kind, shape, typecode
  return np.ndarray.__new__(np.ndarray, (0,), "b")


def _array_from_bytes(buffer: Any, dtype: np.dtype, shape: Any, order: str = "C") -> np.ndarray:
  if dtype.hasobject:
    raise pickle.UnpicklingError("it holds Python objects instead of numbers")
  return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(spec: Any, align: object = False, copy: object = False) -> np.dtype:
  # Old files say align=0, which numpy >= 2.4 warns about.
  text = spec.decode("ascii") if isinstance(spec, bytes) else spec
  if not isinstance(text, str):
    raise pickle.UnpicklingError(f"it holds an array of an unusual type ({type(spec).__name__})")
  return np.dtype(text, align=bool(align), copy=bool(copy))


def _encode(text: str, encoding: str = "latin1") -> bytes:
  """How Python 3 writes bytes in the old protocols."""
  if encoding not in ("latin1", "latin-1"):
    raise pickle.UnpicklingError(f"it asks for the text encoding {encoding!r}")
  return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
  ("numpy", "ndarray"): _ArrayType,
  ("numpy", "dtype"): _dtype,
  ("_codecs", "encode"): _encode,
  ("builtins", "bytes"): lambda: b"",  # how Python 3 writes it in the old protocols
  ("__builtin__", "bytes"): lambda: b"",
}
for _core in ("numpy.core", "numpy._core"):
  _ALLOWED |= {
    (f"{_core}.multiarray", "_reconstruct"): _array,
    (f"{_core}.multiarray", "scalar"): lambda dtype, raw: _array_from_bytes(raw, dtype, (1,))[0],
    (f"{_core}.numeric", "_frombuffer"): _array_from_bytes,
  }


class _Unpickler(pickle.Unpickler):
  """Knows the names of the table above and no others."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}, which is not data")
    return _ALLOWED[module, name]

  def persistent_load(self, pid: Any) -> Any:
    del pid
    raise pickle.UnpicklingError("refused: it refers to an object elsewhere")


def _check_places(raw: bytes) -> None:
  """Refuses a memo with more places than the file has bytes: the loader would make them all."""
  for code, argument, _ in pickletools.genops(raw):
    if code.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(raw):
      raise pickle.UnpicklingError(f"it asks for {argument} places in memory")


def load_dict(raw: bytes, *, place: str) -> dict[str, Any]:
  """Reads one pickled dict of numbers, text and arrays; text from Python 2 stays bytes.

  A ValueError says if it is damaged, asks for anything but data, or is not a dict.
  """
  try:
    _check_places(raw)
    value = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
  except Exception as error:  # a damaged pickle can raise almost anything
    reason = str(error) or type(error).__name__
    raise ValueError(
      f"{place}: not a readable pickle ({reason}); extract or download the archive again."
    ) from error
  if not isinstance(value, dict):
    raise ValueError(f"{place}: expected a pickled dict, got {type(value).__name__}.")
  return {k.decode("utf-8", "replace") if isinstance(k, bytes) else str(k): value[k] for k in value}


def _read_files(
  path: pathlib.Path, folder: str, names: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
  """Yields (name, content) of the files `folder/name`, each once, in any order; none may lack."""
  missing = set(names)
  source = _from_folder(path, names) if path.is_dir() else _from_tar(path, folder, names)
  for name, content in source:
    if name in missing:
      missing.remove(name)
      yield name, content
  if missing:
    inside = "" if path.is_dir() else f" in {folder}/"
    raise ValueError(
      f"{path}: lacks {', '.join(sorted(missing))}{inside}; extract or download it again."
    )


def _from_folder(path: pathlib.Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
  for name in names:
    file = path / name
    if not file.exists():
      continue
    try:
      yield name, files.read_bytes(file, limit=MAX_BYTES)
    except (OSError, ValueError) as error:
      raise ValueError(
        f"{file}: unreadable ({files.reason(error)}); extract the archive again."
      ) from error


def _from_tar(path: pathlib.Path, folder: str, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
  """Reads to the very end, where gzip keeps the checksum of everything before."""
  wanted = {f"{folder}/{name}": name for name in names}
  try:
    with files.open_regular(path) as raw:
      is_packed = raw.read(2) == _GZIP
      raw.seek(0)
      stream: Any = _Bounded(gzip.GzipFile(fileobj=raw) if is_packed else raw)
      with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
          name = wanted.get(member.name.removeprefix("./"))
          if name is None or not member.isfile():
            continue
          if member.size > MAX_BYTES:
            raise ValueError(f"{member.name} claims {member.size} bytes")
          handle = tar.extractfile(member)
          assert handle is not None
          yield name, handle.read()
      while stream.read(2**20):
        pass
  except Exception as error:  # tarfile, gzip and zlib each raise their own
    raise ValueError(
      f"{path}: unreadable or truncated archive ({files.reason(error)}); download it again."
    ) from error


class _Bounded:
  """Ends a stream that unpacks to more than any known archive."""

  def __init__(self, stream: Any):
    self._stream, self._left = stream, MAX_BYTES

  def read(self, size: int) -> bytes:
    """Returns the next bytes."""
    block = self._stream.read(size)
    self._left -= len(block)
    if self._left < 0:
      raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
    return block


def md5_of(file: pathlib.Path) -> str:
  """Returns the MD5 sum as published beside the archives (a check against damage, not attack)."""
  with file.open("rb") as handle:
    return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
