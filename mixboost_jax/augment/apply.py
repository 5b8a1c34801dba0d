# SPDX-License-Identifier: Apache-2.0
"""Two formulations of "apply a different operation to every example", with equal results.

serial: a compiled loop over the examples whose body branches to the one operation that is used.
  Nothing superfluous is computed and the picture stays in the cache: the fastest on a CPU, where
  an iteration costs a fraction of a microsecond. More cores are used by sharding the batch
  (`sharding.py`); each device loops over its own examples.
merged: the operations of the whole batch at once, one pass per family (warp, look-up, blend, point)
  with the parameters of each example: few large kernels, as accelerators want. A batched
  `lax.switch` would run every operation on every example instead.

All arithmetic is on levels, in integers or singly rounded floats, so both give the same bits.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from mixboost_jax.augment.steps import ENHANCERS, GEOMETRIC, Op, Steps
from mixboost_jax.image import affine, enhance, histogram, point

Levels = UInt8[Array, "H W C"]
LevelBatch = UInt8[Array, "N H W C"]

FORMULATIONS = ("auto", "serial", "merged")


def is_serial(formulation: str) -> bool:
  """Resolves "auto": serial on a CPU, merged elsewhere."""
  if formulation == "auto":
    return jax.default_backend() == "cpu"
  return formulation == "serial"


_TABLES_OF: dict[Op, Callable[[Array], Array]] = {
  Op.AUTOCONTRAST: histogram.autocontrast_tables,
  Op.EQUALIZE: histogram.equalize_tables,
}
_POINT: dict[Op, Callable[[Array, Array], Array]] = {
  Op.IDENTITY: lambda levels, magnitude: levels,
  Op.INVERT: lambda levels, magnitude: point.invert(levels),
  Op.POSTERIZE: point.posterize,
  Op.SOLARIZE: point.solarize,
  Op.SOLARIZE_ADD: point.solarize_add,
  Op.COLOR: enhance.color,
  Op.CONTRAST: enhance.contrast,
  Op.BRIGHTNESS: enhance.brightness,
  Op.SHARPNESS: enhance.sharpness,
}
_SHIFTS = frozenset({Op.TRANSLATE_X, Op.TRANSLATE_Y})  # by whole pixels: nothing to interpolate


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
  add(_TABLES_OF.keys() & set(ops), lambda x, s, t: histogram.look_up(x[None], t)[0])
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
    choose({op}, histogram.look_up(levels, _TABLES_OF[op](levels)))
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
    choose(Op.COLOR, enhance.luminance(levels)[..., None])
  if Op.CONTRAST in used:
    choose(Op.CONTRAST, jax.vmap(enhance.mean_luminance)(levels)[:, None, None, None])
  if Op.SHARPNESS in used:
    choose(Op.SHARPNESS, jax.vmap(enhance.smooth)(levels).astype(jnp.int32))
  return jax.vmap(enhance.blend)(degenerate, levels.astype(jnp.int32), step.magnitude)


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
