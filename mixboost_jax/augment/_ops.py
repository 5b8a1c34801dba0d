# SPDX-License-Identifier: Apache-2.0
"""Pillow's operations on batches: what policies draw (`Steps`) and how it is applied.

A step says which operation, with which magnitude, and for the geometric ones which fixed-point
matrix: numbers that a batch can carry. Where a policy has finitely many steps they are tabulated
once in double precision (`tabulate`), so that they match Pillow to the pixel.

There are two formulations of "apply a different operation to every example", with equal results.

serial: a compiled loop over the examples whose body branches to the one operation that is used.
  Nothing superfluous is computed and the picture stays in the cache: the fastest on a CPU, where
  an iteration costs a fraction of a microsecond. More cores are used by sharding the batch
  (`over_mesh`); each device loops over its own examples.
merged: the operations of the whole batch at once, one pass per family (warp, look-up, blend, point)
  with the parameters of each example: few large kernels, as accelerators want. A batched
  `lax.switch` would run every operation on every example instead.

All arithmetic is on levels, in integers or singly rounded floats, so both give the same bits.
"""

import enum
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import target
from mixboost_jax.array_types import Images, PRNGKeys
from mixboost_jax.image import affine
from mixboost_jax.image.levels import (
  autocontrast_tables,
  blend,
  brightness,
  color,
  contrast,
  equalize_tables,
  from_levels,
  invert,
  look_up,
  luminance,
  mean_luminance,
  posterize,
  sharpness,
  smooth,
  solarize,
  solarize_add,
  to_levels,
)

Levels = UInt8[Array, "H W C"]
LevelBatch = UInt8[Array, "N H W C"]


def is_serial(formulation: str) -> bool:
  """Resolves "auto": serial on a CPU, merged elsewhere."""
  if formulation == "auto":
    return target.is_cpu()
  return formulation == "serial"


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


_TABLES_OF: dict[Op, Callable[[Array], Array]] = {
  Op.AUTOCONTRAST: autocontrast_tables,
  Op.EQUALIZE: equalize_tables,
}
_POINT: dict[Op, Callable[[Array, Array], Array]] = {
  Op.IDENTITY: lambda levels, magnitude: levels,
  Op.INVERT: lambda levels, magnitude: invert(levels),
  Op.POSTERIZE: posterize,
  Op.SOLARIZE: solarize,
  Op.SOLARIZE_ADD: solarize_add,
  Op.COLOR: color,
  Op.CONTRAST: contrast,
  Op.BRIGHTNESS: brightness,
  Op.SHARPNESS: sharpness,
}
_SHIFTS = frozenset({Op.TRANSLATE_X, Op.TRANSLATE_Y})  # by whole pixels: nothing to interpolate


class Steps(NamedTuple):
  """Steps of any leading shape; constant ones are NumPy arrays until they are drawn from."""

  op: Int[Array, "*n"]
  magnitude: Float[Array, "*n"]
  matrix: Int[Array, "*n 6"]


def one_step(
  levels: Levels, step: Steps, *, ops: Sequence[Op], interpolation: str, fill: UInt8[Array, " C"]
) -> Levels:
  """Applies one step to one picture, branching to the operation; `ops` are those that may occur."""
  branches: list[Callable[[Array, Steps, Array], Array]] = []
  branch_of = np.zeros(len(Op), np.int32)

  def add(members: set[Op], branch: Callable[[Array, Steps, Array], Array]) -> None:
    if members:
      branch_of[[int(op) for op in members]] = len(branches)
      branches.append(branch)

  for op in sorted(_POINT.keys() & set(ops)):
    add({op}, lambda x, s, t, kernel=_POINT[op]: kernel(x, s.magnitude))
  add(_TABLES_OF.keys() & set(ops), lambda x, s, t: look_up(x[None], t)[0])
  shifts, warps = set(ops) & _SHIFTS, (set(ops) & GEOMETRIC) - _SHIFTS
  if interpolation == "nearest":
    shifts, warps = shifts | warps, set()
  add(shifts, lambda x, s, t: affine.nearest(x, s.matrix, fill=fill))
  add(warps, lambda x, s, t: affine.bilinear(x, s.matrix, fill=fill))
  tables = _tables(levels, step, ops)
  return jax.lax.switch(jnp.asarray(branch_of)[step.op], branches, levels, step, tables)


def _tables(levels: Levels, step: Steps, ops: Sequence[Op]) -> UInt8[Array, "1 C 256"]:
  """Makes the look-up tables of one picture, if its operation needs them.

  In a branch of their own: fused into the look-up, they would be made again for every pixel.
  """
  blank = jnp.zeros((1, levels.shape[-1], 256), jnp.uint8)
  which = jnp.int32(0)
  branches: list[Callable[[Array], Array]] = [lambda x: blank]
  for op in sorted(_TABLES_OF.keys() & set(ops)):
    which = jnp.where(step.op == op, len(branches), which)
    branches.append(lambda x, tables_of=_TABLES_OF[op]: tables_of(x[None]))
  return jax.lax.switch(which, branches, levels) if len(branches) > 1 else blank


def apply_serial(
  levels: LevelBatch,
  steps: Steps,
  *,
  ops: Sequence[Op],
  interpolation: str,
  fill: UInt8[Array, " C"],
) -> LevelBatch:
  """Applies `steps[N, S]` from the first to the last column, looping over the examples."""
  num_steps = steps.op.shape[1]

  def one(picture: Array, own: Steps) -> Array:
    def body(i: Array, x: Array) -> Array:
      step = jax.tree.map(lambda leaf: leaf[i], own)
      return one_step(x, step, ops=ops, interpolation=interpolation, fill=fill)

    return jax.lax.fori_loop(0, num_steps, body, picture)

  return jax.lax.map(lambda pair: one(*pair), (levels, steps))


def merged_step(
  levels: LevelBatch,
  step: Steps,
  *,
  ops: Sequence[Op],
  interpolation: str,
  fill: UInt8[Array, " C"],
) -> LevelBatch:
  """Applies one step per example (`step[N]`) to a batch, one pass per family of operations."""
  used = set(ops)
  out = levels

  def choose(members: set[Op], value: Array) -> None:
    nonlocal out
    chosen = jnp.isin(step.op, jnp.asarray(sorted(int(op) for op in members)))
    out = jnp.where(chosen[:, None, None, None], value, out)

  for op in sorted(_TABLES_OF.keys() & used):
    choose({op}, look_up(levels, _TABLES_OF[op](levels)))
  for op in sorted((_POINT.keys() & used) - ENHANCERS - {Op.IDENTITY}):
    choose({op}, jax.vmap(_POINT[op])(levels, step.magnitude))
  if used & ENHANCERS:
    choose(used & ENHANCERS, _blended(levels, step, used & ENHANCERS))
  shifts, warps = used & _SHIFTS, (used & GEOMETRIC) - _SHIFTS
  if interpolation == "nearest":
    shifts, warps = shifts | warps, set()
  for members, sample in ((shifts, affine.nearest), (warps, affine.bilinear)):
    if members:
      choose(members, jax.vmap(lambda x, m, f=sample: f(x, m, fill=fill))(levels, step.matrix))
  return out


def _blended(levels: LevelBatch, step: Steps, used: set[Op]) -> LevelBatch:
  """Blends with the degenerate picture that each example's enhancer wants, in one pass."""
  degenerate = jnp.zeros(levels.shape, jnp.int32)

  def choose(op: Op, value: Array) -> None:
    nonlocal degenerate
    chosen = (step.op == op)[:, None, None, None]
    degenerate = jnp.where(chosen, jnp.broadcast_to(value, levels.shape), degenerate)

  if Op.COLOR in used:
    choose(Op.COLOR, luminance(levels)[..., None])
  if Op.CONTRAST in used:
    choose(Op.CONTRAST, jax.vmap(mean_luminance)(levels)[:, None, None, None])
  if Op.SHARPNESS in used:
    choose(Op.SHARPNESS, jax.vmap(smooth)(levels).astype(jnp.int32))
  return jax.vmap(blend)(degenerate, levels.astype(jnp.int32), step.magnitude)


def apply_merged(
  levels: LevelBatch,
  steps: Steps,
  *,
  ops: Sequence[Op],
  interpolation: str,
  fill: UInt8[Array, " C"],
) -> LevelBatch:
  """Applies `steps[N, S]` from the first to the last column to the whole batch at once."""
  columns = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)

  def body(x: Array, column: Steps) -> tuple[Array, None]:
    x = merged_step(x, column, ops=ops, interpolation=interpolation, fill=fill)
    return x, None

  return jax.lax.scan(body, levels, columns)[0]


def apply_steps(
  levels: LevelBatch,
  steps: Steps,
  *,
  ops: Sequence[Op],
  interpolation: str,
  fill: UInt8[Array, " C"],
  formulation: str,
) -> LevelBatch:
  """Applies `steps[N, S]` in the formulation that suits the backend, or the one asked for."""
  if steps.op.shape[1] == 0:
    return levels
  run = apply_serial if is_serial(formulation) else apply_merged
  return run(levels, steps, ops=ops, interpolation=interpolation, fill=fill)


_MATRIX_ENTRY = {Op.SHEAR_X: 1, Op.TRANSLATE_X: 2, Op.SHEAR_Y: 3, Op.TRANSLATE_Y: 5}


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


Draw = Callable[..., Steps]


def run_table(
  each: PRNGKeys, images: Images, table: Any, draw: Draw, *, fill: Any, formulation: str
) -> Images:
  """Draws steps of `table` with `draw(each, table) -> Steps[N, S]` and applies them.

  `table` is constant: Steps, or a tuple whose first member is. Compiled as one program per
  policy, also where the caller does not compile.
  """
  return _run(
    each,
    images,
    table,
    jnp.asarray(fill, jnp.float32),
    draw=_frozen(draw),
    ops=ops_of(table if isinstance(table, Steps) else table[0]),
    formulation=formulation,
  )


@functools.partial(jax.jit, static_argnames=("draw", "ops", "formulation"))
def _run(
  each: PRNGKeys,
  images: Images,
  table: Any,
  fill: jax.Array,
  *,
  draw: Any,
  ops: tuple[Op, ...],
  formulation: str,
) -> Images:
  function, keywords = draw
  steps = function(each, table, **dict(keywords))
  value = to_levels(jnp.broadcast_to(fill, images.shape[-1:]))
  levels = apply_steps(
    to_levels(images), steps, ops=ops, interpolation="nearest", fill=value, formulation=formulation
  )
  return from_levels(levels)


def index(u: jax.Array, size: int) -> jax.Array:
  """Turns uniform numbers in [0, 1) into uniform integers below `size`."""
  return jnp.minimum((u * size).astype(jnp.int32), size - 1)


def _frozen(draw: Draw) -> tuple[Any, tuple[tuple[str, Any], ...]]:
  """Makes a partial hashable by value, so that equal policies share one compiled program."""
  if isinstance(draw, functools.partial):
    return draw.func, tuple(sorted(draw.keywords.items()))
  return draw, ()
