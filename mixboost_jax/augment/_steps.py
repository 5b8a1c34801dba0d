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

from mixboost_jax import keys, target
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.image import affine
from mixboost_jax.image import levels as levels_lib
from mixboost_jax.image.levels import from_levels, look_up, to_levels

Levels = UInt8[Array, "H W C"]
LevelBatch = UInt8[Array, "N H W C"]
Fill = UInt8[Array, " C"]


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


SHEARS = frozenset({Op.SHEAR_X, Op.SHEAR_Y})
SHIFTS = frozenset({Op.TRANSLATE_X, Op.TRANSLATE_Y})  # by whole pixels: nothing to interpolate
GEOMETRIC = frozenset({Op.ROTATE, *SHEARS, *SHIFTS})
"""Operations whose magnitude has a sign."""
ENHANCERS = frozenset({Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS})
UNITS = {
  Op.ROTATE: "degrees",
  **dict.fromkeys(SHEARS, "pixels per pixel"),
  **dict.fromkeys(SHIFTS, "pixels"),
  Op.POSTERIZE: "bits",
  Op.SOLARIZE: "threshold",
  Op.SOLARIZE_ADD: "levels",
  **dict.fromkeys(ENHANCERS, "factor"),
}

_TABLES_OF: dict[Op, Callable[[Array], Array]] = {
  Op.AUTOCONTRAST: levels_lib.autocontrast_tables,
  Op.EQUALIZE: levels_lib.equalize_tables,
}
_POINT: dict[Op, Callable[[Array, Array], Array]] = {
  Op.IDENTITY: lambda levels, magnitude: levels,
  Op.INVERT: lambda levels, magnitude: levels_lib.invert(levels),
  Op.POSTERIZE: levels_lib.posterize,
  Op.SOLARIZE: levels_lib.solarize,
  Op.SOLARIZE_ADD: levels_lib.solarize_add,
  Op.COLOR: levels_lib.color,
  Op.CONTRAST: levels_lib.contrast,
  Op.BRIGHTNESS: levels_lib.brightness,
  Op.SHARPNESS: levels_lib.sharpness,
}


class Steps(NamedTuple):
  """Steps of any leading shape; constant ones are NumPy arrays until they are drawn from."""

  op: Int[Array, "*n"]
  magnitude: Float[Array, "*n"]
  matrix: Int[Array, "*n 6"]


Branch = Callable[[Array, Steps, Array], Array]


def _geometric(
  ops: Sequence[Op], interpolation: str, fill: Fill
) -> list[tuple[set[Op], Callable[[Array, Array], Array]]]:
  """Lists which of the operations are sampled how; shifts by whole pixels never interpolate."""
  used = GEOMETRIC & set(ops)
  shifts = used if interpolation == "nearest" else used & SHIFTS
  samplers = ((set(shifts), affine.nearest), (set(used - shifts), affine.bilinear))
  return [(members, functools.partial(f, fill=fill)) for members, f in samplers if members]


def one_step(
  levels: Levels, step: Steps, *, ops: Sequence[Op], interpolation: str, fill: Fill
) -> Levels:
  """Applies one step to one picture, branching to the operation; `ops` are those that may occur."""
  branches: list[tuple[set[Op], Branch]] = [
    ({op}, lambda x, s, t, kernel=_POINT[op]: kernel(x, s.magnitude))
    for op in sorted(_POINT.keys() & set(ops))
  ]
  if tabled := _TABLES_OF.keys() & set(ops):
    branches.append((tabled, lambda x, s, t: look_up(x[None], t)[0]))
  for members, sample in _geometric(ops, interpolation, fill):
    branches.append((members, lambda x, s, t, sample=sample: sample(x, s.matrix)))
  branch_of = np.zeros(len(Op), np.int32)
  for number, (members, _) in enumerate(branches):
    branch_of[list(members)] = number
  which, tables = jnp.asarray(branch_of)[step.op], _tables(levels, step, ops)
  return jax.lax.switch(which, [branch for _, branch in branches], levels, step, tables)


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


def in_turn(picture: Levels, steps: Steps, number: Any, **how: Any) -> Levels:
  """Applies the first `number` of `steps[S]` to one picture; `how` as for `one_step`."""

  def body(i: Array, x: Array) -> Array:
    return one_step(x, jax.tree.map(lambda leaf: leaf[i], steps), **how)

  return jax.lax.fori_loop(0, number, body, picture)


def apply_serial(levels: LevelBatch, steps: Steps, **how: Any) -> LevelBatch:
  """Applies `steps[N, S]` from the first to the last column, looping over the examples."""
  number = steps.op.shape[1]
  return jax.lax.map(lambda pair: in_turn(pair[0], pair[1], number, **how), (levels, steps))


def merged_step(
  levels: LevelBatch, step: Steps, *, ops: Sequence[Op], interpolation: str, fill: Fill
) -> LevelBatch:
  """Applies one step per example (`step[N]`) to a batch, one pass per family of operations.

  What does not look at neighbours sees pictures of width 1: a TPU fills its registers along rows.
  """
  used = set(ops)
  narrow = out = levels.reshape(len(levels), -1, 1, levels.shape[-1])

  def choose(members: set[Op], value: Array) -> None:
    nonlocal out
    chosen = jnp.isin(step.op, jnp.asarray(sorted(int(op) for op in members)))
    out = jnp.where(chosen[:, None, None, None], value.reshape(narrow.shape), out)

  if tabled := sorted(_TABLES_OF.keys() & used):
    tables = _TABLES_OF[tabled[0]](narrow)
    for op in tabled[1:]:
      tables = jnp.where((step.op == op)[:, None, None], _TABLES_OF[op](narrow), tables)
    choose(set(tabled), look_up(narrow, tables))
  for op in sorted((_POINT.keys() & used) - ENHANCERS - {Op.IDENTITY}):
    choose({op}, jax.vmap(_POINT[op])(narrow, step.magnitude))
  if enhancers := used & ENHANCERS:
    smooth = jax.vmap(levels_lib.smooth)(levels) if Op.SHARPNESS in used else levels
    choose(enhancers, _blended(narrow, smooth.reshape(narrow.shape), step, enhancers))
  for members, sample in _geometric(ops, interpolation, fill):
    choose(members, jax.vmap(sample)(levels, step.matrix))
  return out.reshape(levels.shape)


def _blended(levels: LevelBatch, smooth: LevelBatch, step: Steps, used: set[Op]) -> LevelBatch:
  """Blends with the degenerate picture that each example's enhancer wants, in one pass."""
  degenerate_of: dict[Op, Callable[[], Array]] = {
    Op.COLOR: lambda: levels_lib.luminance(levels)[..., None],
    Op.CONTRAST: lambda: jax.vmap(levels_lib.mean_luminance)(levels)[:, None, None, None],
    Op.SHARPNESS: lambda: smooth.astype(jnp.int32),
  }
  degenerate = jnp.zeros(levels.shape, jnp.int32)  # black, for brightness
  for op in sorted(degenerate_of.keys() & used):
    chosen = (step.op == op)[:, None, None, None]
    value = jnp.broadcast_to(degenerate_of[op](), levels.shape)
    degenerate = jnp.where(chosen, value, degenerate)
  return jax.vmap(levels_lib.blend)(degenerate, levels.astype(jnp.int32), step.magnitude)


def apply_merged(levels: LevelBatch, steps: Steps, **how: Any) -> LevelBatch:
  """Applies `steps[N, S]` from the first to the last column to the whole batch at once."""
  columns = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
  return jax.lax.scan(lambda x, step: (merged_step(x, step, **how), None), levels, columns)[0]


_IDENTITY = np.array([1.0, 0, 0, 0, 1, 0])
_SLOPES = np.zeros((len(Op), 6))  # what a unit of magnitude adds; rotations are not linear
_SLOPES[[Op.SHEAR_X, Op.TRANSLATE_X, Op.SHEAR_Y, Op.TRANSLATE_Y], [1, 2, 3, 5]] = 1


def _fixed_point(op: Any, matrix: Any, *, bits: int) -> Any:
  """Rounds matrices to integers; shifts are by whole pixels and never interpolated."""
  xp = np if isinstance(matrix, np.ndarray) else jnp
  shifted = xp.isin(op, xp.asarray(sorted(SHIFTS)))[..., None]
  whole, fixed = (affine.fixed_point(matrix, bits=b) for b in (affine.NEAREST_BITS, bits))
  return xp.where(shifted, whole, fixed)


def tabulate(
  ops: Any, magnitudes: Any, *, height: int, width: int, interpolation: str = "nearest"
) -> Steps:
  """Returns constant steps in double precision; `ops` and `magnitudes` broadcast.

  Magnitudes are in the unit of each operation, and ignored where it has none.
  """
  ops, magnitudes = np.broadcast_arrays(np.asarray(ops, np.int32), np.float64(magnitudes))
  matrix = _IDENTITY + _SLOPES[ops] * magnitudes[..., None]
  for place in zip(*np.nonzero(ops == Op.ROTATE), strict=True):
    matrix[place] = affine.rotation(float(magnitudes[place]), height=height, width=width)
  fixed = _fixed_point(ops, matrix, bits=affine.SAMPLERS[interpolation][1])
  return Steps(*(cast(Array, leaf) for leaf in (ops, magnitudes.astype(np.float32), fixed)))


def traced_steps(
  op: Int[Array, "*n"],
  magnitude: Float[Array, "*n"],
  *,
  shape: tuple[int, ...],
  max_degrees: int,
  interpolation: str,
) -> Steps:
  """Returns steps whose magnitudes are known at run time only.

  Rotations by whole degrees within +-max_degrees, which are looked up in a table made in double
  precision; translations by whole pixels.
  """
  bits = affine.SAMPLERS[interpolation][1]
  identity = np.broadcast_to(np.float32(_IDENTITY), (*op.shape, 6))
  matrix = identity + jnp.asarray(_SLOPES, jnp.float32)[op] * magnitude[..., None]
  fixed = _fixed_point(op, matrix, bits=bits)
  (height, width), degrees = shape, range(-max_degrees, max_degrees + 1)
  turns = np.stack([affine.rotation(float(d), height=height, width=width) for d in degrees])
  turns = jnp.asarray(affine.fixed_point(turns, bits=bits))
  turned = turns[jnp.clip(magnitude.astype(jnp.int32), -max_degrees, max_degrees) + max_degrees]
  return Steps(op, magnitude, jnp.where((op == Op.ROTATE)[..., None], turned, fixed))


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


def index(u: jax.Array, size: int) -> jax.Array:
  """Turns uniform numbers in [0, 1) into uniform integers below `size`."""
  return jnp.minimum((u * size).astype(jnp.int32), size - 1)


def pick(table: Steps, number: Int[Array, "*n"]) -> Steps:
  """Returns the steps of these numbers, which count through all axes of a table."""
  rank = len(table.op.shape)
  return jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[rank:])[number], table)


def run_table(
  key: AnyKey,
  images: Images,
  table: Any,
  draw: Callable[..., Steps],
  *,
  fill: Any,
  formulation: str,
  **options: int,
) -> Images:
  """Draws steps of `table` with `draw(each, table, **options) -> Steps[N, S]` and applies them.

  `table` is constant: Steps, or a tuple whose first member is. Compiled as one program per
  policy, also where the caller does not compile.
  """
  return _run(
    keys.per_example(key, len(images)),
    images,
    table,
    jnp.asarray(fill, jnp.float32),
    draw=draw,
    options=tuple(options.items()),
    ops=ops_of(table if isinstance(table, Steps) else table[0]),
    serial=is_serial(formulation),
  )


@functools.partial(jax.jit, static_argnames=("draw", "options", "ops", "serial"))
def _run(
  each: PRNGKeys,
  images: Images,
  table: Any,
  fill: jax.Array,
  *,
  draw: Any,
  options: tuple[tuple[str, int], ...],
  ops: tuple[Op, ...],
  serial: bool,
) -> Images:
  steps, levels = draw(each, table, **dict(options)), to_levels(images)
  if steps.op.shape[1]:
    value = to_levels(jnp.broadcast_to(fill, images.shape[-1:]))
    apply = apply_serial if serial else apply_merged
    levels = apply(levels, steps, ops=ops, interpolation="nearest", fill=value)
  return from_levels(levels)
