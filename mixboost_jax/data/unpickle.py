# SPDX-License-Identifier: Apache-2.0
"""Reads the pickles of published data sets without running what else a pickle may contain.

Only plain Python values and numeric numpy arrays can come out. Every other name that a file asks
for is refused, so a tampered archive cannot start a program.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np


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


def _scalar(dtype: np.dtype, raw: bytes) -> Any:
  return _array_from_bytes(raw, dtype, (1,))[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
  """How Python 3 writes bytes in the old protocols."""
  if encoding not in ("latin1", "latin-1"):
    raise pickle.UnpicklingError(f"it asks for the text encoding {encoding!r}")
  return text.encode("latin1")


def _no_bytes() -> bytes:
  """How Python 3 writes b"" in the old protocols."""
  return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
  ("numpy", "ndarray"): _ArrayType,
  ("numpy", "dtype"): _dtype,
  ("numpy.core.multiarray", "_reconstruct"): _array,
  ("numpy._core.multiarray", "_reconstruct"): _array,
  ("numpy.core.multiarray", "scalar"): _scalar,
  ("numpy._core.multiarray", "scalar"): _scalar,
  ("numpy.core.numeric", "_frombuffer"): _array_from_bytes,
  ("numpy._core.numeric", "_frombuffer"): _array_from_bytes,
  ("_codecs", "encode"): _encode,
  ("builtins", "bytes"): _no_bytes,
  ("__builtin__", "bytes"): _no_bytes,
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

  Args:
    raw: the file.
    place: its name, for the message.

  Raises:
    ValueError: if it is damaged, asks for anything but data, or is not a dict.
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
