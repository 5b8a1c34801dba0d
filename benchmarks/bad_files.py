# SPDX-License-Identifier: Apache-2.0
"""Bad data files, configs and results files for `fuzz.py`, made from sound ones with fixed seeds.

A case is bad by construction (a text where a number belongs, a file cut in half), or it is a sound
file with flipped bits: then it may be read as long as it says the same as before.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from configs import base
from mixboost_jax import data, jobs, schema, settings
from mixboost_jax.data import cifar, folders, prepare
from mixboost_jax.evaluate import _ood
from mixboost_jax.models import torch_weights
from mixboost_jax.report.__main__ import main as report
from mixboost_jax.runtime import results, workdir

NO_CHECKSUM = {
  "pictures": "bits of pixels: BMP, JPEG and WebP have no checksum",
  "npy": "bits of a header: .npy has no checksum, and the rest of the set fits all the same",
  "results": "a digit or letter that makes another number or name: JSON has no checksum",
}
"""What may be accepted although it differs from the sound file, and why."""


@dataclasses.dataclass(frozen=True)
class Case:
  """One bad input."""

  kind: str
  name: str
  run: Callable[[pathlib.Path], Any]
  """Makes the input in an empty folder and reads it; what is returned is what it says."""
  word: str = ""
  """What the message must hold; the folder if empty."""
  sound: Callable[[], Any] | None = None
  """For flipped bits: what the sound file says; reading the same is no fault."""
  accepted: str = ""
  """A key of `NO_CHECKSUM` if something else may be read too."""


def rng(*seed: int) -> np.random.Generator:
  return np.random.default_rng(seed)


@functools.cache
def sound() -> pathlib.Path:
  """Returns a folder with one small sound input of every kind."""
  root = pathlib.Path(tempfile.mkdtemp(prefix="sound-"))
  values = small_set()
  np.savez_compressed(root / "set.npz", **values)  # pyright: ignore[reportArgumentType]
  (root / "npy").mkdir()
  for name, value in values.items():
    np.save(root / "npy" / f"{name}.npy", value)
  write_cifar(root)
  for folder in ("train/a", "train/b", "test/a", "test/b"):
    (root / "pictures" / folder).mkdir(parents=True)
    for i in range(2):
      pixels = rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(root / "pictures" / folder / f"{i}.png")
  (root / "arrays").mkdir()
  for name in ("fog", "frost"):
    np.save(root / "arrays" / f"{name}.npy", np.zeros((20, 32, 32, 3), np.uint8))
  np.save(root / "arrays" / "labels.npy", np.tile(np.arange(4), 5))
  prepare.prepare_folder(
    source=root / "pictures", out=root / "records", name="pets", log=lambda line: None
  )
  write_safetensors(root / "weights.safetensors")
  np.savez(root / "weights.npz", a=np.ones((2, 3), np.float32))
  (root / "results.json").write_text(json.dumps(results_tree()))
  with workdir.open_run(root / "run", settings.resolve(base.get_config()), versions={"jax": "0"}):
    (root / "run" / "config.json").rename(root / "config.json")
  shutil.rmtree(root / "run")
  return root


def small_set() -> dict[str, np.ndarray]:
  return {
    "train_images": rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
    "train_labels": np.array([0, 1, 2, 0, 1, 2]),
    "test_images": rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
    "test_labels": np.array([2, 1, 0]),
    "class_names": np.array(["ant", "bee", "cow"]),
  }


def cifar_contents() -> dict[str, dict]:
  train, test, meta = cifar.LAYOUTS["cifar10"].files
  contents: dict[str, dict] = {
    file: {
      b"data": rng(i).integers(0, 256, (4, 3072), dtype=np.uint8),
      b"labels": rng(i).integers(0, 10, 4).tolist(),
    }
    for i, file in enumerate((*train, test))
  }
  contents[meta] = {b"label_names": [b"class %d" % i for i in range(10)]}
  return contents


def write_cifar(root: pathlib.Path, contents: dict[str, dict] | None = None) -> None:
  """Writes the extracted folder and the archive."""
  layout = cifar.LAYOUTS["cifar10"]
  (root / layout.folder).mkdir()
  with tarfile.open(root / layout.archive, "w:gz") as tar:
    for file, content in (contents or cifar_contents()).items():
      raw = pickle.dumps(content, protocol=2)
      (root / layout.folder / file).write_bytes(raw)
      member = tarfile.TarInfo(f"{layout.folder}/{file}")
      member.size = len(raw)
      tar.addfile(member, io.BytesIO(raw))


def write_safetensors(path: pathlib.Path, **changes: Any) -> None:
  entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
  header = json.dumps({"a": entry}).encode()
  path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def results_tree() -> dict[str, Any]:
  metric = {
    **{"name": "error", "value": 5.5, "low": 5.0, "high": 6.1, "confidence": 0.95},
    **{"interval": "wilson", "count": 100, "unit": "%", "better": "lower"},
    **{"dataset": "shapes", "split": "test", "source": "procedural"},
  }
  return {
    "schema_version": 1,
    "name": "demo_erm",
    "settings": settings.resolve(base.get_config()).to_json(),
    "config_hash": "abc",
    "environment": {
      "versions": {"jax": "0"},
      "hardware": {"platform": "cpu", "device_count": 1, "cpu": "x", "cores": 2},
      "git": {"commit": "0123456789", "dirty": False},
    },
    "command": "mixboost",
    "started": "2026-01-01T00:00:00+00:00",
    "seconds": {"train": 1.0},
    "metrics": [metric, {**metric, "name": "ece"}],
    "curves": {
      "train": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}],
      "reliability/shapes": [
        {"step": 0, "low": 0.0, "high": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.7}
      ],
      "interactions": [
        {"step": 0, "ratio": 0.0, "relative": 1.0, "low": 0.9, "high": 1.1, "strength": 2.0}
      ],
    },
    "samples": {},
    "flags": [{"name": "x", "level": "note", "message": "m", "remedy": "r"}],
  }


def section(**changes: Any) -> schema.Data:
  """Returns the resolved `data` section."""
  return schema.Data(**{**changes, "dir": str(changes.get("dir", ""))})


def said_by(dataset: data.Dataset) -> str:
  """Returns a digest of all that was read."""
  state = hashlib.sha256(repr(dataset.class_names).encode())
  for split in (dataset.train, dataset.test):
    state.update(np.asarray(split.images).tobytes() + np.asarray(split.labels).tobytes())
  return state.hexdigest()


def load(name: str, place: pathlib.Path, **changes: Any) -> str:
  return said_by(data.load(section(name=name, dir=place, **changes)))


def read_any(place: pathlib.Path) -> Any:
  """Reads a file or folder by what it is called."""
  if place.name in READERS:
    return READERS[place.name](place)
  return READERS[place.suffix](place)


def _report(path: pathlib.Path) -> str:
  """Reads a results file and draws it through the command line; raises what that prints."""
  found = results.read(path)
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
    code = report([str(path), f"--out={path.parent / 'report.html'}"])
  if code:
    raise results.ResultsError(f"{path}: {stderr.getvalue()}")
  return json.dumps(dataclasses.asdict(found), sort_keys=True, default=str)


def _released(place: pathlib.Path) -> str:
  opened = data.released.open_set("cifar10_c", place, groups=("benchmark",))
  return hashlib.sha256(np.asarray(opened.load(opened.units[0]).images).tobytes()).hexdigest()


def _weights(path: pathlib.Path) -> str:
  read = torch_weights.read_arrays(path)
  return repr({name: (value.shape, value.tobytes()) for name, value in read.items()})


READERS: dict[str, Callable[[pathlib.Path], Any]] = {
  "set.npz": lambda p: load("npz", p),
  "npy": lambda p: load("npz", p),
  "cifar-10-batches-py": lambda p: load("cifar10", p),
  "cifar-10-python.tar.gz": lambda p: load("cifar10", p),
  "pictures": lambda p: load("folder", p),
  "records": lambda p: load("tfds", p, tfds_name="pets"),
  "weights.safetensors": _weights,
  "weights.npz": _weights,
  "results.json": _report,
  "config.json": lambda p: json.dumps(workdir.read_config(p.parent)),
  "ood.npy": lambda p: _ood.from_folder(str(p), image_shape=(8, 8, 3), limit=9).tobytes(),
  "mixing": lambda p: folders.read_mixing_images(p, size=8, cache=p.parent / "cache").tobytes(),
}


@functools.cache
def sound_value(name: str) -> Any:
  return read_any(sound() / name)


def harmed(name: str, harm: Callable[[pathlib.Path], None], file: str = "") -> Callable:
  """Returns a run: copies the sound input, harms it (or one of its files), reads it."""

  def run(folder: pathlib.Path) -> Any:
    source, target = sound() / name, folder / name
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    harm(target / file if file else target)
    return read_any(target)

  return run


def cut(share: float) -> Callable[[pathlib.Path], None]:
  return lambda file: os.truncate(file, int(share * file.stat().st_size))


def flip(seed: int, *, first: int = 0) -> Callable[[pathlib.Path], None]:
  """Flips one bit, among the first so many bytes if `first` is given."""

  def harm(file: pathlib.Path) -> None:
    raw = bytearray(file.read_bytes())
    bit = int(rng(seed).integers(8 * min(len(raw), first or len(raw))))
    raw[bit // 8] ^= 1 << bit % 8
    file.write_bytes(raw)

  return harm


def put(content: bytes) -> Callable[[pathlib.Path], None]:
  def harm(file: pathlib.Path) -> None:
    file.write_bytes(content)

  return harm


def become(kind: str) -> Callable[[pathlib.Path], None]:
  """Puts something in the place of a file that is none."""

  def harm(file: pathlib.Path) -> None:
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    if kind == "a pipe":
      os.mkfifo(file)
    elif kind == "a folder":
      file.mkdir()
    else:
      file.symlink_to({"/dev/zero": "/dev/zero", "a loop": file.name, "nothing": "none"}[kind])

  return harm


GARBAGE = {
  "empty": b"",
  "one byte": b"\0",
  "text": b"hello\n",
  "zeros": bytes(5000),
  "noise": rng(9).bytes(5000),
  "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n",
  "HTML": b"<!DOCTYPE html><html>404</html>",
}
FILES = {  # input -> a file of it that cannot be missed
  "set.npz": "",
  "npy": "train_images.npy",
  "cifar-10-batches-py": "data_batch_2",
  "cifar-10-python.tar.gz": "",
  "pictures": "train/a/0.png",
  "records": "pets/1.0.0/dataset_info.json",
  "weights.safetensors": "",
  "weights.npz": "",
  "results.json": "",
  "config.json": "",
}


def damaged_files() -> Iterator[Case]:
  """Cut, garbled, flipped and replaced files of every kind."""
  for name, file in FILES.items():
    kind = {"results.json": "results", "config.json": "results"}.get(name, "data")
    says = functools.partial(sound_value, name)
    for share in (0.02, 0.3, 0.6, 0.9, 0.995):
      yield Case(kind, f"{name}: cut to {share}", harmed(name, cut(share), file), sound=says)
    for what, content in GARBAGE.items():
      yield Case(kind, f"{name}: {what}", harmed(name, put(content), file))
    for what in ("a pipe", "a folder", "/dev/zero", "a loop", "nothing"):
      if (name, what) == ("pictures", "a folder"):
        continue  # one picture less, which is no fault
      yield Case(kind, f"{name}: {what}", harmed(name, become(what), file))
    first = {"npy": 128, "weights.npz": 0}.get(name, 0)
    accepted = {"npy": "npy", "results.json": "results", "config.json": "results"}.get(name, "")
    accepted = {"records": "results", "weights.safetensors": "npy"}.get(name, accepted)
    accepted = "npy" if name == "cifar-10-batches-py" else accepted
    for seed in range(20):
      run = harmed(name, flip(seed, first=first), file)
      yield Case(kind, f"{name}: bit {seed}", run, sound=says, accepted=accepted)


def wrong_arrays() -> Iterator[Case]:
  changes: dict[str, Any] = {
    "train_labels": [
      *(np.full(6, big) for big in (2**31, 2**40, 2**62, 3, -1)),
      *(np.zeros(6, kind) for kind in (float, bool, "U1", "S1", "M8[s]", complex)),
      *(np.zeros(shape, int) for shape in ((), (0,), (5,), (6, 1))),
      np.array([None] * 6),
    ],
    "test_labels": [np.full(3, 3), np.zeros(4, int), np.array([0.5, 1, 2])],
    "train_images": [
      *(np.zeros((6, 8, 8, 3), kind) for kind in (float, np.int8, np.uint16, bool)),
      *(np.zeros(s, np.uint8) for s in ((), (6,), (6, 8), (6, 8, 8, 2), (6, 8, 8, 3, 1))),
      *(np.zeros(s, np.uint8) for s in ((0, 8, 8, 3), (5, 8, 8, 3), (6, 9, 8, 3), (6, 0, 8, 3))),
    ],
    "class_names": [
      *(np.array(names) for names in (["a"], ["a", "b"], ["a", "a", "b"], [1, 2, 3], "abc")),
      np.array([b"\xff", b"b", b"c"]),
      np.array(["\ud800", "b", "c"]),
      np.array(["a", "b", "c"], object),
      np.zeros(0, "U1"),
    ],
  }
  for name, values in changes.items():
    for i, value in enumerate(values):
      for packed in (True, False):

        def run(folder: pathlib.Path, name: str = name, value: Any = value, packed: Any = packed):
          content = {**small_set(), name: value}
          if name == "train_labels" and value.dtype.kind == "i":
            content.pop("class_names")
            content["class_names" if value.size and value.max() == 3 else "unused"] = np.arange(3)
          if packed:
            np.savez(folder / "set.npz", **content)
            return read_any(folder / "set.npz")
          (folder / "npy").mkdir()
          for key, array in content.items():
            np.save(folder / "npy" / f"{key}.npy", array)
          return read_any(folder / "npy")

        yield Case("data", f"{'npz' if packed else 'npy'}: {name} {i}", run)


def wrong_archives() -> Iterator[Case]:
  big, nan = np.full((4, 3072), 7), float("nan")
  changes: list[tuple[str, str, Any]] = [
    *(("data_batch_1", "labels", v) for v in ([1], [1, 2, 3, 10], [1, 2, 3, -1], "abcd", None)),
    *(("data_batch_3", "labels", v) for v in ([nan] * 4, [2**70] * 4, [[1]] * 4, {}, 5, [])),
    *(("data_batch_2", "data", v) for v in (big, big.astype(np.uint8)[:3], b"x", 5, None, [[1]])),
    *(("batches.meta", "label_names", v) for v in ([], ["a"] * 10, [b"\xff"] * 10, 5, [1] * 10)),
    ("test_batch", "data", np.zeros((0, 3072), np.uint8)),
  ]
  for i, (file, key, value) in enumerate(changes):
    for packed in (True, False):

      def run(
        folder: pathlib.Path,
        file: str = file,
        key: str = key,
        value: Any = value,
        packed: bool = packed,
      ):
        contents = cifar_contents()
        contents[file][key.encode()] = value
        write_cifar(folder, contents)
        layout = cifar.LAYOUTS["cifar10"]
        return read_any(folder / (layout.archive if packed else layout.folder))

      yield Case("data", f"cifar {'packed' if packed else 'unpacked'}: {file} {key} {i}", run)
  call = b"cos\nsystem\n(S'true'\ntR."
  for what, raw in {
    "calls a program": call,
    "takes much memory": b"}r\xff\xff\xff\x7f.",
    "calls ndarray": b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
    "refers elsewhere": b"Pabc\n.",
    "a list": pickle.dumps([1]),
    "half a dict": pickle.dumps({b"data": 1})[:-3],
  }.items():
    run = harmed("cifar-10-batches-py", put(raw), "data_batch_1")
    yield Case("data", f"pickle: {what}", run)
  for kind in ("SYMTYPE", "LNKTYPE", "FIFOTYPE", "CHRTYPE", "DIRTYPE", "GNUTYPE_SPARSE"):

    def special(path: pathlib.Path, kind: str = kind) -> None:
      with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.type, member.linkname = getattr(tarfile, kind), "/etc/hostname"
        tar.addfile(member)

    yield Case("data", f"tar: {kind}", harmed("cifar-10-python.tar.gz", special))


def wrong_pictures() -> Iterator[Case]:
  pixels = rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
  for kind in ("EPS", "GIF", "TIFF", "PPM", "ICO", "TGA", "PCX", "SGI", "PDF"):
    raw = io.BytesIO()
    Image.fromarray(pixels).save(raw, kind)
    for name, file in (("pictures", "train/a/0.png"), ("mixing", "0.png")):

      def run(
        folder: pathlib.Path, raw: bytes = raw.getvalue(), name: str = name, file: str = file
      ):
        shutil.copytree(sound() / "pictures", folder / name)
        (folder / name / file).write_bytes(raw)
        return read_any(folder / name)

      yield Case("data", f"{name}: {kind} in {file}", run)
  for kind in ("PNG", "JPEG", "BMP", "WEBP"):
    raw = io.BytesIO()
    Image.fromarray(pixels).save(raw, kind)
    for share in (0.1, 0.5, 0.8):
      part = raw.getvalue()[: int(share * len(raw.getvalue()))]
      yield Case("data", f"{kind}: cut to {share}", harmed("pictures", put(part), "train/a/0.png"))

    def says(raw: bytes = raw.getvalue()) -> Any:
      folder = pathlib.Path(tempfile.mkdtemp(dir=sound()))
      return harmed("pictures", put(raw), "train/a/0.png")(folder)

    for seed in range(12):

      def bits(file: pathlib.Path, seed: int = seed, raw: bytes = raw.getvalue()) -> None:
        file.write_bytes(raw)
        flip(seed)(file)

      run = harmed("pictures", bits, "train/a/0.png")
      accepted = "" if kind == "PNG" else "pictures"
      yield Case("data", f"{kind}: bit {seed}", run, sound=says, accepted=accepted)
  for mode, size in (("I;16", (8, 8)), ("RGB", (9, 8)), ("RGB", (1, 1))):
    raw = io.BytesIO()
    Image.new(mode, size).save(raw, "PNG")
    run = harmed("pictures", put(raw.getvalue()), "train/a/0.png")
    yield Case("data", f"PNG: {mode} {size}", run)


LAYOUTS = (
  "train/a train/b",
  "Train/a Train/b",
  "val/a val/b",
  "test/a test/b",
  "cat dog eval/cat",
  "train test",
  "Train Test",
  "train val",
  "train/a Train/b test/a",
  "train/a test/a",
  "cat",
  "",
  ".hidden/a",
  "train/a train/b test/c",
  "train/a train/b test/a test/b/empty/",
  "train/a train/empty/ test/a",
)


def wrong_folders() -> Iterator[Case]:
  for layout in LAYOUTS:

    def run(folder: pathlib.Path, layout: str = layout) -> Any:
      root = folder / "pictures"
      root.mkdir()
      for name in layout.split():
        (root / name).mkdir(parents=True)
        for i in range(0 if name.endswith("/") else 9):
          Image.new("RGB", (8, 8)).save(root / name / f"{i}.png")
      return read_any(root)

    yield Case("data", f"folder: {layout or 'empty'}", run)

  def bytes_in_a_name(folder: pathlib.Path) -> Any:
    shutil.copytree(sound() / "pictures" / "train", folder / "pictures")
    os.rename(folder / "pictures" / "b", os.fsencode(folder / "pictures") + b"/\xff")
    return read_any(folder / "pictures")

  yield Case("data", "folder: a name that is no text", bytes_in_a_name)


def wrong_records() -> Iterator[Case]:
  place = "pets/1.0.0/{}"
  for file in ("dataset_info.json", "features.json"):
    for i, value in enumerate((None, [], {}, 5, "x", "[" * 10**5)):
      text = value if isinstance(value, str) else json.dumps(value)
      run = harmed("records", put(text.encode()), place.format(file))
      yield Case("data", f"records: {file} {i}", run)
  changes = {
    "no splits": lambda t: t.pop("splits"),
    "many rows": lambda t: t["splits"][0].update(shardLengths=["99999999999"]),
    "more rows": lambda t: t["splits"][0].update(shardLengths=["99"]),
    "no rows": lambda t: t["splits"][0].update(shardLengths=["0"]),
    "other format": lambda t: t.update(fileFormat="tfrecord"),
    "other names": lambda t: [s.update(name=s["name"] + "x") for s in t["splits"]],
    "text for rows": lambda t: t["splits"][0].update(shardLengths=["x"]),
  }
  for what, change in changes.items():

    def harm(file: pathlib.Path, change: Callable = change) -> None:
      tree = json.loads(file.read_text())
      change(tree)
      file.write_text(json.dumps(tree))

    run = harmed("records", harm, place.format("dataset_info.json"))
    yield Case("data", f"records: {what}", run)

  def classes(file: pathlib.Path) -> None:
    (file.parent / "label.labels.txt").unlink()
    text = file.read_text().replace('"numClasses": "2"', '"numClasses": "1099511627776"')
    file.write_text(text)

  run = harmed("records", classes, place.format("features.json"))
  yield Case("data", "records: 2**40 classes", run)
  for seed in range(10):

    def shard(folder: pathlib.Path, seed: int = seed) -> None:
      flip(seed)(next(folder.glob("*train*")))

    says = functools.partial(sound_value, "records")
    run = harmed("records", shard, "pets/1.0.0")
    yield Case("data", f"records: bit {seed} of a shard", run, sound=says)


def wrong_released() -> Iterator[Case]:
  values = {
    "floats": np.zeros((20, 32, 32, 3)),
    "rows": np.zeros((19, 32, 32, 3), np.uint8),
    "size": np.zeros((20, 31, 32, 3), np.uint8),
    "objects": np.array([None]),
  }
  labels = {
    "labels 10": np.tile(np.arange(7, 11), 5),
    "other blocks": np.arange(20) % 10,
    "labels float": np.zeros(20),
    "no labels": np.zeros(0, int),
    "labels 2-D": np.zeros((5, 4), int),
  }
  for what, value in {**values, **labels}.items():

    def run(folder: pathlib.Path, what: str = what, value: Any = value) -> Any:
      shutil.copytree(sound() / "arrays", folder / "released")
      np.save(folder / "released" / ("fog.npy" if what in values else "labels.npy"), value)
      return _released(folder / "released")

    yield Case("data", f"released: {what}", run)
  for what, value in {**values, "empty": np.zeros((0, 8, 8, 3), np.uint8)}.items():

    def ood(folder: pathlib.Path, value: Any = value) -> Any:
      np.save(folder / "ood.npy", value)
      return read_any(folder / "ood.npy")

    yield Case("data", f"ood: {what}", ood)
  for what, content in GARBAGE.items():

    def raw(folder: pathlib.Path, content: bytes = content) -> Any:
      (folder / "ood.npy").write_bytes(content)
      return read_any(folder / "ood.npy")

    yield Case("data", f"ood: {what}", raw)


def wrong_weights() -> Iterator[Case]:
  entries = [
    *({"dtype": value} for value in ("F8", 5, None, [])),
    *({"shape": value} for value in ([3], [-1, -2], [2**62], "x", None, 2, [0.5], [[2]])),
    *(
      {"data_offsets": v} for v in ([0, 9], [-8, 0], [8, 0], [0], [0, 2**70], "ab", None, [0.5, 8])
    ),
  ]
  for i, entry in enumerate(entries):

    def run(folder: pathlib.Path, entry: dict = entry) -> Any:
      write_safetensors(folder / "weights.safetensors", **entry)
      return read_any(folder / "weights.safetensors")

    yield Case("data", f"safetensors: {i}", run)
  yield Case("data", "safetensors: 10**5 levels", harmed("weights.safetensors", put(deep())))


def deep() -> bytes:
  return struct.pack("<Q", 10**5) + b"[" * 10**5


def bombs() -> Iterator[Case]:
  """Small files that ask for much memory or time."""
  for what, head in (("images", small_set()), ("labels", small_set())):

    def npz(folder: pathlib.Path, what: str = what, head: dict = head) -> Any:
      size = 640 * 2**20
      with zipfile.ZipFile(folder / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in head.items():
          with archive.open(f"{name}.npy", "w") as member:
            if name != f"train_{what}":
              np.lib.format.write_array(member, value)
              continue
            shape = (size // 192, 8, 8, 3) if what == "images" else (size // 8,)
            descr = "|u1" if what == "images" else "<i8"
            np.lib.format.write_array_header_1_0(
              member, {"descr": descr, "fortran_order": False, "shape": shape}
            )
            for _ in range(size >> 20):
              member.write(bytes(2**20))
      return read_any(folder / "set.npz")

    yield Case("bombs", f"npz: 640 MiB of {what}", npz)

  def weights(file: pathlib.Path) -> None:
    np.savez_compressed(file, a=np.zeros(2**27, np.float32))

  yield Case("bombs", "weights.npz: 512 MiB of zeros", harmed("weights.npz", weights))
  for what, name, claimed in (
    ("a member of 8 GiB", "cifar-10-batches-py/data_batch_1", 8 * 2**30),
    ("a foreign member of 8 GiB", "else", 8 * 2**30),
    ("a member of 200 MiB, then 8 GiB behind", "cifar-10-batches-py/data_batch_1", 200 * 2**20),
  ):

    def tar(folder: pathlib.Path, name: str = name, claimed: int = claimed) -> Any:
      member = tarfile.TarInfo(name)
      member.size = claimed
      packed = zlib.compressobj(9, wbits=31)
      path = folder / "cifar-10-python.tar.gz"
      with path.open("wb") as file:
        file.write(packed.compress(member.tobuf()) + packed.flush(zlib.Z_FULL_FLUSH))
        block = packed.compress(bytes(2**24)) + packed.flush(zlib.Z_FULL_FLUSH)
        for _ in range(512):
          file.write(block)
      return read_any(path)

    yield Case("bombs", f"tar.gz: {what}", tar)
  for side in (12_000, 40_000):

    def png(file: pathlib.Path, side: int = side) -> None:
      def chunk(kind: bytes, body: bytes) -> bytes:
        return (
          struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

      head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
      pixels = chunk(b"IDAT", zlib.compress(bytes(10**7)))
      file.write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))

    yield Case("bombs", f"PNG: {side} px", harmed("pictures", png, "train/a/0.png"))

  def sparse(file: pathlib.Path) -> None:
    file.write_bytes(b"")
    os.truncate(file, 2**37)

  for name, file in FILES.items():
    yield Case("bombs", f"{name}: 128 GiB of holes", harmed(name, sparse, file))
  for shape in ((2**40, 8, 8, 3), (2**62, 8, 8, 3), (-6, 8, 8, 3), (6, 2**40, 8, 3)):

    def header(file: pathlib.Path, shape: tuple = shape) -> None:
      with file.open("wb") as target:
        np.lib.format.write_array_header_1_0(
          target, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )

    yield Case("bombs", f"npy: {shape}", harmed("npy", header, "train_images.npy"))
  for what, text in {
    "10**6 levels": "[" * 10**6,
    "a number of 10**6 digits": '{"schema_version": ' + "1" * 10**6 + "}",
    "2,000 levels": '{"schema_version": 1, "name": ' + "[" * 2000 + "]" * 2000 + "}",
    "10**5 metrics": json.dumps({**results_tree(), "metrics": [1] * 10**5}),
  }.items():
    yield Case("bombs", f"results: {what}", harmed("results.json", put(text.encode())))


WRONG = (None, True, -1, 10**400, 1e400, float("nan"), "\ud800", "x", [], {}, [1], {"a": 1})


def wrong_results() -> Iterator[Case]:
  """Every entry of a results file missing or of another type; then through the report."""
  kinds: dict[type, tuple] = {
    str: (None, True, 3, "\ud800", [], {}),
    float: (True, 10**400, "x", [], {}, float("nan"), float("inf")),
    int: (True, 10**400, "x", [], {}, 1.5),
    list: (None, True, "x", {"a": 1}, [1]),
    dict: (None, True, "x", [1]),
    bool: (),
  }
  tree = {k: v for k, v in results_tree().items() if k not in ("settings", "environment")}
  path: Any
  for path, value in walk(tree):
    if path == ("samples",) or type(value) is type(None):
      continue
    if path[0] == "curves" and len(path) > 1 and path[-1] != "step":
      wrong = (True, 10**400, "x", {})
    else:
      wrong = kinds[type(value)]
    for i, new in enumerate(wrong):
      yield Case("results", f"{'.'.join(map(str, path))}: {i}", changed(path, new))
    if path[0] in ("metrics", "flags") and len(path) == 3:
      yield Case("results", f"{'.'.join(map(str, path))}: missing", changed(path, DROPPED))
  for key in results_tree():
    if key != "flags":
      yield Case("results", f"{key}: missing", changed((key,), DROPPED))
    yield Case("results", f"{key}x: unknown", changed((f"{key}x",), 1))
  for path, new in (
    (("settings", "data"), 5),
    (("settings", "model"), "x"),
    (("settings", "data", "name"), [1]),
    (("environment", "git"), "abc"),
    (("environment", "hardware"), [1]),
    (("environment", "versions"), 5),
    (("environment", "git", "commit"), 5),
    (("curves", "interactions"), [{"step": 0}]),
    (("curves", "audit/roc/x"), [{"step": 0}]),
    (("curves", "interaction_map"), [{"step": 0}]),
    (("curves", "interaction_tree"), [{"step": 0, "left": 1, "right": 2}]),
    (("samples", "clean"), "/etc/passwd"),
    (("samples", "clean"), "../x.png"),
    (("samples", "other"), "x.png"),
    (("seconds", "train"), -1),
    (("metrics", 0, "low"), 7.0),
    (("metrics", 0, "confidence"), 95),
    (("metrics", 0, "better"), "up"),
    (("metrics", 0, "count"), -1),
    (("flags", 0, "level"), "pink"),
    (("schema_version",), 2),
    (("schema_version",), True),
  ):
    yield Case("results", f"{'.'.join(map(str, path))} {new!r}", changed(path, new))
  for key, wrong in (("settings", WRONG[:11]), ("config_version", WRONG)):
    for i, new in enumerate(wrong):
      if key == "settings" and isinstance(new, dict):
        continue

      def harm(file: pathlib.Path, key: str = key, new: Any = new) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), key: new}))

      yield Case("results", f"config.json: {key} {i}", harmed("config.json", harm))


DROPPED = object()


def walk(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
  pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
  for key, value in pairs:
    yield (*path, key), value
    if isinstance(value, dict | list):
      yield from walk(value, (*path, key))


def put_at(tree: Any, path: tuple, new: Any) -> None:
  for key in path[:-1]:
    tree = tree[key]
  if new is DROPPED:
    del tree[path[-1]]
  else:
    tree[path[-1]] = new


def changed(path: tuple, new: Any) -> Callable[[pathlib.Path], Any]:
  def run(folder: pathlib.Path) -> Any:
    tree = results_tree()
    put_at(tree, path, new)
    (folder / "results.json").write_text(json.dumps(tree))
    return read_any(folder / "results.json")

  return run


def wrong_configs() -> Iterator[Case]:
  """Every key of every type wrong, unknown or missing."""
  kinds: dict[type, tuple] = {
    str: (3, None, True, ["x"], {"a": 1}),
    float: ("x", None, True, [1.0], {"a": 1}, float("nan"), float("-inf")),
    int: ("x", None, 1.5, [1], {"a": 1}, -(10**9)),
    bool: ("x", None, 2, [True], {"a": 1}),
    tuple: ("x", None, 3, {"a": 1}, [None]),
    type(None): ("x", [1], {"a": 1}, float("nan"), -1.0),
  }
  tree = base.get_config().to_dict()
  for path, value in walk(tree):
    if isinstance(value, dict):
      wrong: tuple = (5, "x", [1]) if path == ("runs",) else (5, "x", None, [1])
    else:
      wrong = kinds[type(value)]
    name = ".".join(path)
    word = f"config.{name}".removesuffix(".name" if "policy" in path else "")
    for new in wrong:
      yield Case("configs", f"{name}={new!r}", configured(path, new), word)
    if value not in (None, {}):  # what is optional may be left out
      yield Case("configs", f"{name} missing", configured(path, DROPPED), word)
    if isinstance(value, dict) and path[-1] != "policy":
      word = f"config.{name}.unknown"
      yield Case("configs", word, configured((*path, "unknown"), 1), word)
  for tree in (None, 5, "x", [], {}, {"seed": 0}, {1: 2}):
    run = functools.partial(lambda folder, tree: resolve(tree), tree=tree)
    yield Case("configs", f"config {tree!r}", run, "config")


def configured(path: tuple, new: Any) -> Callable[[pathlib.Path], Any]:
  def run(folder: pathlib.Path) -> Any:
    tree = base.get_config().to_dict()
    put_at(tree, path, new)
    return resolve(tree)

  return run


def resolve(tree: Any) -> Any:
  """Resolves a config as the command line does."""
  return settings.resolve_runs(tree, checks=jobs.CHECKS)


def cases() -> list[Case]:
  """Returns all bad inputs in a fixed order."""
  warnings.simplefilter("ignore")
  makers = (
    *(damaged_files, wrong_arrays, wrong_archives, wrong_pictures, wrong_folders, wrong_records),
    *(wrong_released, wrong_weights, wrong_results, wrong_configs, bombs),
  )
  return [case for maker in makers for case in maker()]
