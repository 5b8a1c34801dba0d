# SPDX-License-Identifier: Apache-2.0
"""Random patch masks: which cells of an image a masked view keeps.

The code speaks of the fraction *kept* only. The paper's text calls `r1` the masked fraction, its
figures treat it as the kept one; configs accept both names (`mask.keep_rate`, `mask.mask_rate`).

Symbols (Deng et al. 2022, arXiv:2111.06236): n -> grid**2 players, S1 within S2 -> the smaller
and the larger mask, r1 < r2 -> their keep rates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images


@checks.inputs()
def upsample(
  mask: Bool[Array, "*n grid grid"], *, height: int, width: int
) -> Bool[Array, "*n height width"]:
  """Repeats each cell over its pixels: pixel (i, j) reads cell (i*grid//height, j*grid//width).

  ```python
  mask = masks.sample_patch_mask(key, grid=8, keep_rate=0.7)
  assert masks.upsample(mask, height=32, width=32).shape == (32, 32)
  ```
  """
  grid = mask.shape[-1]
  if grid > min(height, width):
    raise ValueError(
      f"masks: a grid of {grid} cells per side is finer than a {height}x{width} image; "
      f"use mask.grid <= {min(height, width)}."
    )
  if height % grid == 0 and width % grid == 0:
    return jnp.repeat(jnp.repeat(mask, height // grid, axis=-2), width // grid, axis=-1)
  rows = jnp.arange(height) * grid // height
  columns = jnp.arange(width) * grid // width
  return mask[..., rows[:, None], columns[None, :]]


@checks.inputs()
def apply(
  images: Images,
  mask: Bool[Array, "*n grid grid"],
  *,
  fill: float | Float[Array, "..."] = 0.5,
) -> Images:
  """Writes `fill` into the cells that are not kept; differentiable in `images` and `fill`.

  ```python
  mask = masks.sample_patch_mask(key, grid=8, keep_rate=0.7)
  masked = masks.apply(images, mask, fill=0.5)
  ```

  Args:
    images: values in [0, 1].
    mask: True where a cell is kept: one `[grid, grid]` for all, or one per example.
    fill: pixel value in [0, 1]: a number, `[C]`, or `[H, W, C]`. The model's normalisation mean
      (0 after its first layer) is the default of Deng et al. and of our configs.
  """
  num, height, width, _ = images.shape
  if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[0] != num):
    raise ValueError(
      f"masks.apply: expected a mask [grid, grid] or [{num}, grid, grid], got {mask.shape}."
    )
  keep = upsample(mask, height=height, width=width)
  keep = jnp.broadcast_to(keep, (num, height, width))[..., None]
  fill = jnp.asarray(fill, images.dtype)
  if fill.ndim not in (0, 1, 3):
    raise ValueError(f"masks.apply: fill must be a number, [C] or [H, W, C], got {fill.shape}.")
  shape = {0: (1, 1, 1, 1), 1: (1, 1, 1, -1), 3: (1, *fill.shape)}[fill.ndim]
  return jnp.where(keep, images, jnp.broadcast_to(fill.reshape(shape), images.shape))


@checks.inputs()
def num_kept(*, grid: int, keep_rate: float) -> int:
  """Returns `int(keep_rate * grid**2)`, the exact number of kept cells (179 of 256 for 0.7).

  ```python
  assert masks.num_kept(grid=16, keep_rate=0.7) == 179
  ```
  """
  _check_grid(grid)
  if not 0 <= keep_rate <= 1:
    raise ValueError(f"masks: keep_rate must be in [0, 1], got {keep_rate}.")
  return int(keep_rate * grid**2)


def _check_grid(grid: int) -> None:
  if grid < 1:
    raise ValueError(f"masks: grid must be >= 1 cell per side, got {grid}.")


@checks.inputs()
def cell_ranks(key: AnyKey, *, grid: int) -> Int[Array, "*n grid grid"]:
  """Draws a uniformly random order of the cells, or one per key: ranks 0 .. grid**2 - 1.

  ```python
  ranks = masks.cell_ranks(key, grid=4)
  assert sorted(ranks.ravel().tolist()) == list(range(16))
  ```
  """
  _check_grid(grid)
  if key.ndim:
    return jax.vmap(lambda k: cell_ranks(k, grid=grid))(key)
  return jax.random.permutation(key, grid**2).reshape(grid, grid)


@checks.inputs()
def keep_lowest(
  ranks: Int[Array, "*n grid grid"], *, keep_rate: float
) -> Bool[Array, "*n grid grid"]:
  """Keeps the `num_kept` cells of lowest rank, so masks of one order are nested.

  ```python
  ranks = masks.cell_ranks(key, grid=8)
  few, many = (masks.keep_lowest(ranks, keep_rate=rate) for rate in (0.3, 0.7))
  assert (few <= many).all()
  ```
  """
  return ranks < num_kept(grid=ranks.shape[-1], keep_rate=keep_rate)


@checks.inputs()
def sample_patch_mask(key: AnyKey, *, grid: int, keep_rate: float) -> Bool[Array, "*n grid grid"]:
  """Keeps a uniformly random set of exactly `int(keep_rate * grid**2)` cells.

  Paper: Liu et al. (MixBoost), Sec. III-B, "random patch masks". A training step draws
  `cell_ranks`, so that its views nest if there are several.

  ```python
  mask = masks.sample_patch_mask(key, grid=16, keep_rate=0.7)
  assert mask.sum() == masks.num_kept(grid=16, keep_rate=0.7)
  ```

  Args:
    key: one key gives `bool[grid, grid]`; one key per example gives `bool[N, grid, grid]`.
    grid: cells per side; 16 gives 2x2-pixel cells on a 32-pixel image.
    keep_rate: fraction of cells kept (True), in [0, 1].
  """
  return keep_lowest(cell_ranks(key, grid=grid), keep_rate=keep_rate)


@checks.inputs()
def nested_patch_masks(
  key: AnyKey, *, grid: int, r1: float, r2: float
) -> tuple[Bool[Array, "*n grid grid"], Bool[Array, "*n grid grid"]]:
  """Draws S1 within S2 from one random order (per key); returns `(smaller, larger)`.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 4 (nested random subsets).

  ```python
  smaller, larger = masks.nested_patch_masks(key, grid=8, r1=0.3, r2=0.7)
  assert (smaller <= larger).all()
  ```

  Args:
    key: one key, or one key per example.
    grid: cells per side.
    r1: keep rate of the smaller set.
    r2: keep rate of the larger set, `0 <= r1 <= r2 <= 1`.
  """
  if r1 > r2:
    raise ValueError(f"nested_patch_masks: expected r1 <= r2, got r1={r1}, r2={r2}.")
  ranks = cell_ranks(key, grid=grid)
  return keep_lowest(ranks, keep_rate=r1), keep_lowest(ranks, keep_rate=r2)


__all__ = [
  "apply",
  "cell_ranks",
  "keep_lowest",
  "nested_patch_masks",
  "num_kept",
  "sample_patch_mask",
  "upsample",
]


def __dir__() -> list[str]:
  return __all__
