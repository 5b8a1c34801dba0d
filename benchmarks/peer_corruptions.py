# SPDX-License-Identifier: Apache-2.0
"""The reference side of the corruption benchmarks: runs the authors' own functions where they lie.

usage: <python with opencv, scikit-image, wand> benchmarks/peer_corruptions.py INPUT.npz OUTPUT.npz

INPUT holds `images/cifar` and `images/imagenet` (uint8 NHWC), `jobs` ("table/name/severity/rows"),
`seed`, and the folders `robustness` (github.com/hendrycks/robustness) and `c_bar`
(github.com/facebookresearch/augmentation-corruption). OUTPUT gets, per job, the pictures and the
seconds taken; table "cifar_p" makes the films of make_cifar_p.py, for which torch and torchvision
0.2.1 (of the time of the release; later ones turn pictures about another centre) must be there too.
Names and functions that newer releases of NumPy, SciPy, scikit-image and Pillow have
removed are put back while the authors' files run; the files are not changed.
"""

import ast
import collections
import collections.abc
import contextlib
import functools
import inspect
import io
import os
import pathlib
import sys
import textwrap
import time
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SCRIPTS = {"cifar": "make_cifar_c.py", "imagenet": "make_imagenet_c.py"}
ABSENT = ("torch", "torchvision", "accimage")
"""Imported at the top of the authors' files, not needed by the corruptions."""


class _Anything(types.ModuleType):
  """Stands in for a module whose contents are named but never used."""

  __path__: typing.ClassVar[list[str]] = []

  def __getattr__(self, name: str) -> Any:
    if name.startswith("__"):
      raise AttributeError(name)
    return type(name, (), {})


class _Finder:
  """Imports every module below `ABSENT` as `_Anything`."""

  def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
    import importlib.machinery

    del path, target
    if name.partition(".")[0] not in ABSENT:
      return None
    return importlib.machinery.ModuleSpec(name, self, is_package=True)  # pyright: ignore

  def create_module(self, spec: Any) -> types.ModuleType:
    return _Anything(spec.name)

  def exec_module(self, module: types.ModuleType) -> None:
    del module


def restore_removed_names() -> None:
  """Puts back what the authors' files import and current releases lack."""
  import scipy.ndimage
  import skimage.filters
  from PIL import Image

  sys.meta_path.append(_Finder())  # pyright: ignore[reportArgumentType]
  for name, value in (("float_", np.float64), ("int", int), ("uint", np.uint64)):
    if name not in np.__dict__:
      setattr(np, name, value)
  np.fromstring = np.frombuffer  # pyright: ignore[reportAttributeAccessIssue]
  old = types.ModuleType("scipy.ndimage.interpolation")
  old.map_coordinates = scipy.ndimage.map_coordinates  # pyright: ignore
  sys.modules[old.__name__] = old
  blur = skimage.filters.gaussian

  @functools.wraps(blur)
  def gaussian(image, sigma=1, *, multichannel=False, **keywords):
    return blur(image, sigma, channel_axis=-1 if multichannel else None, **keywords)

  skimage.filters.gaussian = gaussian
  if "mode" not in inspect.signature(Image.fromarray).parameters:
    from_array = Image.fromarray
    Image.fromarray = lambda image, mode=None: from_array(image)


def load_script(file: pathlib.Path) -> dict[str, Any]:
  """Runs the definitions of a script, without what follows its last distortion."""
  source = file.read_text(encoding="utf-8")
  end = source[: source.index("/// End Distortions ///")].count("\n")
  tree = ast.parse(source)
  tree.body = [node for node in tree.body if node.lineno <= end]
  names: dict[str, Any] = {"__name__": file.stem}
  exec(compile(tree, str(file), "exec"), names)
  return names


def functions(robustness: str, c_bar: str) -> Callable[[str, str, int], Callable]:
  """Returns a lookup (table, name, severity) -> function of one uint8 picture."""
  scripts = pathlib.Path(robustness) / "ImageNet-C" / "create_c"
  loaded = {table: load_script(scripts / name) for table, name in SCRIPTS.items()}
  bar = pathlib.Path(c_bar) / "imagenet_c_bar"
  sys.path.insert(0, str(bar))
  from transform_finder import build_transform  # pyright: ignore[reportMissingImports]

  levels = {}
  for table, name in (("cifar", "cifar10_c_bar.csv"), ("imagenet", "imagenet_c_bar.csv")):
    for line in (bar / name).read_text().split():
      corruption, *values = line.split(",")
      levels[table, corruption] = [float(v) for v in values]

  def find(table: str, name: str, severity: int) -> Callable:
    from PIL import Image

    if (table, name) in levels:
      return build_transform(name, levels[table, name][severity - 1], table)
    function = loaded[table][name]
    return lambda image: function(Image.fromarray(image), severity)

  return find


def film_function(file: pathlib.Path, name: str) -> Callable:
  """Returns the part of a script that makes one film, of which all but one are comments there.

  Names of harder noises end in _2 and _3 and stand for the second and third loop of a part.
  """
  source = file.read_text(encoding="utf-8")
  kind, _, step = name.partition("_noise_")
  title = (f"{kind}_noise" if step else name).replace("_", " ").title()
  block = source.partition(f"/// {title} Code ///")[2].partition("# ///")[0]
  lines = textwrap.dedent("\n".join(block.splitlines()[1:])).splitlines()
  code = "\n".join(line.removeprefix("# ").rstrip("#") for line in lines)
  head, *loops = code.split("for i in range")
  chosen = head + "for i in range" + loops[int(step or 1) - 1 if "noise" in name else 0]
  names = _definitions(file, source, last="test_data")
  program = compile(textwrap.dedent(chosen), f"{file}:{name}", "exec")

  def film(image: np.ndarray) -> np.ndarray:
    frames: list[np.ndarray] = []
    exec(program, names | {"img": image, "seq": frames})
    return np.stack([np.asarray(frame) for frame in frames])

  return film


@functools.cache
def _definitions(file: pathlib.Path, source: str, *, last: str) -> dict[str, Any]:
  import PIL

  PIL.PILLOW_VERSION = PIL.__version__  # pyright: ignore[reportAttributeAccessIssue]
  for name in ("Iterable", "Sequence", "Callable"):
    setattr(collections, name, getattr(collections.abc, name))
  names: dict[str, Any] = {"__name__": file.stem}
  exec(compile(source.partition(f"\n{last}")[0], str(file), "exec"), names)
  return names


@contextlib.contextmanager
def inside(folder: pathlib.Path) -> Iterator[None]:
  """Frost looks for its photographs in the working directory."""
  before = pathlib.Path.cwd()
  os.chdir(folder)
  try:
    yield
  finally:
    os.chdir(before)


def main() -> None:
  source, target = (pathlib.Path(p).absolute() for p in sys.argv[1:])
  stored = dict(np.load(source))
  restore_removed_names()
  robustness, c_bar = str(stored["robustness"]), str(stored["c_bar"])
  films = pathlib.Path(robustness) / "ImageNet-P" / "create_p" / "make_cifar_p.py"
  with contextlib.redirect_stdout(io.StringIO()):
    makes_films = all(str(job).startswith("cifar_p/") for job in stored["jobs"])
    find = None if makes_films else functions(robustness, c_bar)
  out: dict[str, Any] = {}
  with inside(pathlib.Path(robustness) / "ImageNet-C" / "create_c"):
    for job in stored["jobs"]:
      table, name, severity, rows = str(job).split("/")
      np.random.seed(int(stored["seed"]))
      function = find(table, name, int(severity)) if find else film_function(films, name)
      images = stored[f"images/{table}"][: int(rows)]
      begin = time.perf_counter()
      results = [np.uint8(np.asarray(function(image))) for image in images]
      out[f"seconds/{job}"] = np.array(time.perf_counter() - begin)
      out[f"images/{job}"] = np.stack(results)
      print(f"{job} {float(out[f'seconds/{job}']):.2f} s", file=sys.stderr, flush=True)
  np.savez(target, **out)


if __name__ == "__main__":
  main()
