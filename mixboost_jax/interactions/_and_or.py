# SPDX-License-Identifier: Apache-2.0
"""Sparse AND and OR interactions of a small game, for many pictures at once.

An AND pattern counts where all of its players are present, an OR pattern where one of them is:
v(S) = v(empty) + sum of I_and(T) over T within S + sum of I_or(T) over T that meet S, exactly, for
every split v = v_and + v_or. The split is the one of smallest |I_and|_1 + |I_or|_1.

Symbols (Li & Zhang 2023, arXiv:2304.13312; Chen et al. 2024, arXiv:2401.16318): v(S) -> `tables`,
v_and = (v + q) / 2 + p, v_or = (v + q) / 2 - p, with p -> `split`, q -> `noise`, small.
Coalition S is entry `sum_{i in S} 2**i` of every table.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, loops, metrics
from mixboost_jax.interactions._exact import moebius

MAX_PLAYERS = 12
"""Largest game: 4,096 coalitions, each of which has an AND and an OR pattern."""
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Numbers of patterns that `faithfulness_rows` tries, as far as there are so many."""

Tables = Float[np.ndarray, "X coalitions"]


class AndOr(NamedTuple):
  """The patterns of each picture."""

  and_effects: Tables
  """I_and(S); entry 0 is v(empty). A pattern of one player is counted here alone."""
  or_effects: Tables
  """I_or(S); 0 for patterns of at most one player."""
  noise: Tables
  """q(S), what was added to v(S): the patterns give v + q exactly."""


@checks.inputs()
def and_or(
  tables: Tables, *, with_or: bool = True, noise_share: float = 0.02, num_steps: int = 40_000
) -> AndOr:
  """Splits the rewards of each picture into the sparsest AND and OR patterns.

  Paper: Li & Zhang 2023, arXiv:2304.13312, and Chen et al. 2024, arXiv:2401.16318: the l1 loss over
  p and a bounded q.
  Deviation: the convex problem is solved by the primal-dual method of Chambolle & Pock with
  diagonal steps (Pock & Chambolle 2011) in place of gradient descent with momentum; q(empty) = 0.

  ```python
  tables = np.array([[0.0, 1.0, 1.0, 1.0]])  # one of two players is enough
  found = interactions.and_or(tables, num_steps=1000)
  assert round(found.or_effects[0, 3]) == 1  # a single OR pattern
  ```

  Args:
    tables: v(S) of all 2**n coalitions of each picture, as of `exact.values`; n <= 12.
    with_or: whether there are OR patterns; without them and without noise the result is the
      Harsanyi dividends.
    noise_share: largest |q(S)| over the largest |v(S) - v(empty)| of the picture.
    num_steps: of the solver.

  Raises:
    ValueError: if the tables do not hold 2**n rewards or an option is out of range.
  """
  tables = np.asarray(tables, np.float64)
  size = tables.shape[1]
  num_players = size.bit_length() - 1
  if size != 1 << num_players or not 1 <= num_players <= MAX_PLAYERS:
    raise ValueError(
      f"and_or: expected the 2**n rewards of 1 to {MAX_PLAYERS} players, got {size}; merge cells "
      "of the picture into fewer players."
    )
  if not 0 <= noise_share < 1 or num_steps < 1:
    raise ValueError(
      f"and_or: expected noise_share in [0, 1) and num_steps >= 1, got {noise_share}, {num_steps}."
    )
  centred = tables - tables[:, :1]
  scale = np.maximum(np.abs(centred).max(1, keepdims=True), 1e-30)
  split, noise = np.zeros_like(tables), np.zeros_like(tables)
  if with_or or noise_share:
    solve = functools.partial(_solve, with_or=with_or, bound=noise_share, num_steps=num_steps)
    found = jax.jit(jax.vmap(solve))(jnp.asarray(centred / scale, jnp.float32))
    split, noise = (scale * np.asarray(part, np.float64) for part in found)
  return _patterns(tables, split, noise, with_or=with_or)


def _patterns(tables: Tables, split: Tables, noise: Tables, *, with_or: bool) -> AndOr:
  """Returns the patterns of a split, in float64, so that they give v + q exactly."""
  half = (tables + noise) * (0.5 if with_or else 1.0)
  and_effects = np.stack([moebius(row) for row in half + split])
  if not with_or:
    return AndOr(and_effects, np.zeros_like(tables), noise)
  or_effects = np.stack([-moebius(row[::-1]) for row in half - split])
  alone = _sizes(tables.shape[1]) <= 1  # one player: both kinds mean the same
  and_effects[:, alone] += or_effects[:, alone]
  and_effects[:, 0], or_effects[:, alone] = tables[:, 0], 0.0
  return AndOr(and_effects, or_effects, noise)


def _sizes(size: int) -> np.ndarray:
  """Returns the number of players of each coalition."""
  return np.bitwise_count(np.arange(size)).astype(int)


def _passes(table: Float[Array, " coalitions"], *, transposed: bool) -> Float[Array, " coalitions"]:
  """Returns the Moebius transform of a table, or the transposed one."""
  shape = table.shape
  for player in range(shape[0].bit_length() - 1):
    view = table.reshape(-1, 2, 1 << player)
    absent, present = view[:, 0], view[:, 1]
    pair = (absent - present, present) if transposed else (absent, present - absent)
    table = jnp.stack(pair, axis=1).reshape(shape)
  return table


def _solve(
  table: Float[Array, " coalitions"], *, with_or: bool, bound: float, num_steps: int
) -> tuple[Array, Array]:
  """Returns p and q of least |I_and|_1 + |I_or|_1 with |q| <= `bound`; patterns but the empty one.

  The dual variable y has one entry in [-1, 1] per pattern. Step sizes are the inverse sums of
  absolute entries of rows and columns of the map from (p, q) to the patterns.
  """
  size = table.shape[0]
  sizes, most = _sizes(size), size.bit_length() - 1
  share = 0.5 if with_or else 1.0
  of_row = jnp.asarray(1 / ((1 + share) * 2.0**sizes), jnp.float32)
  columns = 2.0 ** (most - sizes) + (2.0**sizes if with_or else 0.0)
  of_split = jnp.asarray(with_or / columns, jnp.float32)
  of_noise = jnp.asarray(1 / (share * columns), jnp.float32)
  inside = jnp.asarray(sizes > 0, jnp.float32)
  limit = bound * inside

  def effects(split: Array, noise: Array, rewards: Array | float) -> tuple[Array, Array]:
    half = share * (rewards + noise)
    first = _passes(half + split, transposed=False)
    if not with_or:
      return first, jnp.zeros_like(first)
    return first, -_passes((half - split)[::-1], transposed=False)

  def step(_: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
    split, noise, ahead_split, ahead_noise, dual_and, dual_or = carry
    first, second = effects(ahead_split, ahead_noise, table)
    dual_and = inside * jnp.clip(dual_and + of_row * first, -1, 1)
    dual_or = inside * jnp.clip(dual_or + of_row * second, -1, 1)
    up = _passes(dual_and, transposed=True)
    down = -_passes(dual_or, transposed=True)[::-1]
    new_split = split - of_split * (up - down)
    new_noise = jnp.clip(noise - of_noise * share * (up + down), -limit, limit)
    ahead = 2 * new_split - split, 2 * new_noise - noise
    return new_split, new_noise, *ahead, dual_and, dual_or

  zero = jnp.zeros_like(table)
  split, noise, *_ = loops.repeat(step, (zero,) * 6, num_steps)
  return split, noise


@checks.inputs()
def reconstruct(found: AndOr, *, keep: Bool[np.ndarray, "X both"] | None = None) -> Tables:
  """Returns the rewards of all coalitions that the patterns give; v + q where all are kept.

  ```python
  tables = interactions.exact.values(game)[None]  # of one picture
  found = interactions.and_or(tables, num_steps=1000)
  assert np.allclose(interactions.reconstruct(found), tables + found.noise)
  ```

  Args:
    found: of `and_or`.
    keep: which AND patterns and, behind them, which OR patterns count; v(empty) always does.
  """
  both = np.concatenate([found.and_effects, found.or_effects], axis=1)
  if keep is not None:
    both = np.where(keep, both, 0.0)
  both[:, 0] = found.and_effects[:, 0]
  first, second = (_sums_within(part) for part in np.split(both, 2, axis=1))
  # OR patterns that meet S: all but those within the complement of S.
  return first + second[:, -1:] - second[:, ::-1]


def _sums_within(effects: Tables) -> Tables:
  """Returns the sum over T within S of each coalition S: undoes `moebius`."""
  out = np.array(effects, np.float64)
  for player in range(out.shape[1].bit_length() - 1):
    view = out.reshape(len(out), -1, 2, 1 << player)
    view[:, :, 1] += view[:, :, 0]
  return out


def _strongest(found: AndOr) -> np.ndarray:
  """Returns the patterns of each picture, strongest first; OR patterns are numbered behind AND."""
  both = np.concatenate([found.and_effects, found.or_effects], axis=1)
  both[:, 0] = 0.0
  return np.argsort(-np.abs(both), axis=1, kind="stable")


@checks.inputs()
def faithfulness(found: AndOr, tables: Tables, *, num_patterns: int) -> Float[np.ndarray, " X"]:
  """Returns how far the strongest patterns miss v(S), over all coalitions S of each picture.

  The root of the mean squared error over the standard deviation of v(S): 0 is exact, 1 no better
  than the mean.

  ```python
  tables = interactions.exact.values(game)[None]  # of one picture
  found = interactions.and_or(tables, num_steps=1000)
  error = interactions.faithfulness(found, tables, num_patterns=10)  # one number per picture
  ```
  """
  keep = np.zeros((len(tables), 2 * tables.shape[1]), bool)
  np.put_along_axis(keep, _strongest(found)[:, :num_patterns], True, axis=1)
  error = reconstruct(found, keep=keep) - tables
  spread = np.maximum(np.asarray(tables, np.float64).std(1), 1e-30)
  return np.sqrt((error**2).mean(1)) / spread


@checks.inputs()
def faithfulness_rows(
  found: AndOr, tables: Tables, *, confidence: float = 0.95
) -> list[dict[str, Any]]:
  """Returns one row per number of patterns: mean `faithfulness` of AND-OR and of Harsanyi's.

  "error" is that of the AND-OR patterns, "harsanyi" that of as many Harsanyi dividends; intervals
  are Student t over pictures, None with one picture.

  ```python
  tables = interactions.exact.values(game)[None]  # of one picture
  found = interactions.and_or(tables, num_steps=1000)
  rows = interactions.faithfulness_rows(found, tables)
  ```
  """
  plain = and_or(tables, with_or=False, noise_share=0.0)
  num, most = tables.shape
  rows = []
  for count in [count for count in COUNTS if count < 2 * most] + [2 * most]:
    row: dict[str, Any] = {"step": count, "ratio": float(np.log10(count))}
    for name, patterns in (("error", found), ("harsanyi", plain)):
      errors = faithfulness(patterns, tables, num_patterns=count)
      row |= {name: float(errors.mean()), f"{name}_low": None, f"{name}_high": None}
      if num > 1:
        spread = float(errors.std(ddof=1)) / np.sqrt(num)
        low, high = metrics.student_interval(row[name], spread, count=num, confidence=confidence)
        row |= {f"{name}_low": max(0.0, float(low)), f"{name}_high": float(high)}
    rows.append(row)
  return rows


@checks.inputs()
def pattern_rows(found: AndOr, *, picture: int = 0, num: int = 12) -> list[dict[str, Any]]:
  """Returns the strongest patterns of one picture: kind, players (a binary code), size, effect.

  ```python
  tables = interactions.exact.values(game)[None]  # of one picture
  found = interactions.and_or(tables, num_steps=1000)
  strongest = interactions.pattern_rows(found, num=1)[0]  # bit i of "players" is player i
  ```
  """
  size = found.and_effects.shape[1]
  both = np.concatenate([found.and_effects[picture], found.or_effects[picture]])
  return [
    {
      "step": rank,
      "is_or": int(index >= size),
      "players": int(index % size),
      "size": int(index % size).bit_count(),
      "effect": float(both[index]),
    }
    for rank, index in enumerate(_strongest(found)[picture, :num])
  ]


@checks.inputs()
def rectangle(num_players: int) -> tuple[int, int]:
  """Returns rows and columns of the squarest grid of so many cells, rows <= columns.

  ```python
  assert interactions.rectangle(12) == (3, 4)
  ```
  """
  rows = next(r for r in range(int(num_players**0.5), 0, -1) if num_players % r == 0)
  return rows, num_players // rows


@checks.inputs()
def cell_labels(height: int, width: int, *, shape: Sequence[int]) -> np.ndarray:
  """Returns the player of each pixel of a picture cut into `shape` = (rows, columns) cells.

  ```python
  cells = interactions.cell_labels(16, 16, shape=(2, 4))
  game = interactions.image_game(logits_fn, images[0], labels[0], players=cells)
  ```
  """
  rows, columns = np.arange(height) * shape[0] // height, np.arange(width) * shape[1] // width
  return rows[:, None] * shape[1] + columns[None, :]
