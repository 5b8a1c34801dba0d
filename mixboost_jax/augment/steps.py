# SPDX-License-Identifier: Apache-2.0
"""One application of one operation to one picture, as numbers that a batch can carry.

Policies draw `Steps`; `apply.py` runs them. A step says which operation, with which magnitude, and
for the geometric ones which fixed-point matrix. Where a policy has finitely many steps they are
tabulated once in double precision (`tabulate`), so that they match Pillow to the pixel.
"""

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.image import affine


class Op(enum.IntEnum):
  """What may be done to a picture; the comment says what the magnitude is."""

  IDENTITY = 0
  AUTOCONTRAST = 1
  EQUALIZE = 2
  INVERT = 3
  ROTATE = 4  # degrees, counter-clockwise
  SHEAR_X = 5  # pixels per pixel
  SHEAR_Y = 6
  TRANSLATE_X = 7  # pixels
  TRANSLATE_Y = 8
  POSTERIZE = 9  # bits kept
  SOLARIZE = 10  # first level that is inverted
  SOLARIZE_ADD = 11  # levels added below 128
  COLOR = 12  # factor, 1 changes nothing
  CONTRAST = 13
  BRIGHTNESS = 14
  SHARPNESS = 15


GEOMETRIC = frozenset({Op.ROTATE, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y})
SIGNED = GEOMETRIC
ENHANCERS = frozenset({Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS})
WITHOUT_MAGNITUDE = frozenset({Op.IDENTITY, Op.AUTOCONTRAST, Op.EQUALIZE, Op.INVERT})
UNITS = {
  Op.ROTATE: "degrees",
  Op.SHEAR_X: "pixels per pixel",
  Op.SHEAR_Y: "pixels per pixel",
  Op.TRANSLATE_X: "pixels",
  Op.TRANSLATE_Y: "pixels",
  Op.POSTERIZE: "bits",
  Op.SOLARIZE: "threshold",
  Op.SOLARIZE_ADD: "levels",
  **dict.fromkeys(ENHANCERS, "factor"),
}

_MATRIX_ENTRY = {Op.SHEAR_X: 1, Op.TRANSLATE_X: 2, Op.SHEAR_Y: 3, Op.TRANSLATE_Y: 5}


class Steps(NamedTuple):
  """Steps of any leading shape; constant ones are NumPy arrays until they are drawn from."""

  op: Int[Array, "*n"]
  magnitude: Float[Array, "*n"]
  matrix: Int[Array, "*n 6"]


def matrix_of(op: int, magnitude: float, *, height: int, width: int) -> np.ndarray:
  """Returns the float matrix of one geometric operation (the identity for others)."""
  if op == Op.ROTATE:
    return affine.rotation(magnitude, height=height, width=width)
  matrix = np.array([1.0, 0, 0, 0, 1, 0])
  if op in _MATRIX_ENTRY:
    matrix[_MATRIX_ENTRY[Op(op)]] = magnitude
  return matrix


def tabulate(
  ops: Any, magnitudes: Any, *, height: int, width: int, interpolation: str = "nearest"
) -> Steps:
  """Returns constant steps of the shape of `ops`, computed in double precision.

  Args:
    ops: integers of `Op`.
    magnitudes: in the unit of each operation; ignored where it has none.
    height: of the pictures, pixels.
    width: of the pictures, pixels.
    interpolation: "nearest" or "bilinear".
  """
  ops = np.asarray(ops, np.int32)
  magnitudes = np.broadcast_to(np.asarray(magnitudes, np.float64), ops.shape)
  matrices = [
    matrix_of(int(op), float(m), height=height, width=width)
    for op, m in zip(ops.ravel(), magnitudes.ravel(), strict=True)
  ]
  stacked = np.stack(matrices).reshape(*ops.shape, 6)
  shifted = np.isin(ops, (Op.TRANSLATE_X, Op.TRANSLATE_Y))[..., None]
  fixed = np.where(
    shifted,  # by whole pixels: never interpolated
    affine.fixed_point(stacked, bits=affine.NEAREST_BITS),
    affine.fixed_point(stacked, bits=bits_of(interpolation)),
  )
  return Steps(*(cast(Array, leaf) for leaf in (ops, magnitudes.astype(np.float32), fixed)))


def traced_steps(
  op: Int[Array, "*n"],
  magnitude: Float[Array, "*n"],
  *,
  height: int,
  width: int,
  max_degrees: int,
  interpolation: str,
) -> Steps:
  """Returns steps whose magnitudes are known at run time only.

  Args:
    op: integers of `Op`.
    magnitude: whole degrees within +-max_degrees for rotations, whole pixels for translations.
    height: of the pictures, pixels.
    width: of the pictures, pixels.
    max_degrees: rotations are looked up in a table made in double precision.
    interpolation: "nearest" or "bilinear".
  """
  bits = bits_of(interpolation)
  entry = np.zeros((len(Op), 6), np.float32)
  for sheared, position in _MATRIX_ENTRY.items():
    entry[sheared, position] = 1
  identity = np.broadcast_to(np.array([1, 0, 0, 0, 1, 0], np.float32), (*op.shape, 6))
  matrix = identity + jnp.asarray(entry)[op] * magnitude[..., None]
  shifted = jnp.isin(op, jnp.asarray([Op.TRANSLATE_X, Op.TRANSLATE_Y]))[..., None]
  fixed = jnp.where(
    shifted,
    affine.fixed_point(matrix, bits=affine.NEAREST_BITS),
    affine.fixed_point(matrix, bits=bits),
  )
  degrees = np.arange(-max_degrees, max_degrees + 1)
  turns = np.stack([affine.rotation(float(d), height=height, width=width) for d in degrees])
  turns = jnp.asarray(affine.fixed_point(turns, bits=bits))
  turned = turns[jnp.clip(magnitude.astype(jnp.int32), -max_degrees, max_degrees) + max_degrees]
  return Steps(op, magnitude, jnp.where((op == Op.ROTATE)[..., None], turned, fixed))


def bits_of(interpolation: str) -> int:
  """Returns the bits after the point that a kind of sampling works with."""
  return {"nearest": affine.NEAREST_BITS, "bilinear": affine.BILINEAR_BITS}[interpolation]


def ops_of(steps: Steps) -> tuple[Op, ...]:
  """Returns the operations that occur in constant steps, and the identity, in order."""
  return tuple(Op(int(op)) for op in np.unique(np.append(np.asarray(steps.op), Op.IDENTITY)))


def describe(steps: Steps) -> list[dict[str, Any]]:
  """Lists the steps of one example in words: operation, magnitude, unit."""
  listed = []
  for op, magnitude in zip(np.ravel(steps.op), np.ravel(steps.magnitude), strict=True):
    entry: dict[str, Any] = {"op": Op(int(op)).name.lower()}
    if Op(int(op)) in UNITS:
      entry |= {"magnitude": round(float(magnitude), 6), "unit": UNITS[Op(int(op))]}
    listed.append(entry)
  return listed


def names(ops: Sequence[Op]) -> tuple[str, ...]:
  """Returns the names by which a user speaks of operations."""
  return tuple(op.name.lower() for op in ops)
