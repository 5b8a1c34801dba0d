# SPDX-License-Identifier: Apache-2.0
"""Interactions among more than two players: B([A]), its partitions, and trees of players.

Symbols (Zhang et al. 2021, arXiv:2010.13564, "Interpreting multivariate Shapley interactions in
DNNs"): A -> `group`, [A] -> the group played as one player, Omega -> a partition of A,
B_max, B_min -> `partition_extremes`, T([A]) = B_max - B_min.

All functions take the table of Harsanyi dividends (`exact.harsanyi`), so one enumeration serves
every group.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mixboost_jax import checks
from mixboost_jax.interactions import _exact
from mixboost_jax.interactions._game import Game

Dividends = Float[np.ndarray, " coalitions"]
Blocks = tuple[tuple[int, ...], ...]


def _code(players: Iterable[int]) -> int:
  return sum(1 << player for player in players)


def interaction(dividends: Dividends, group: Sequence[int], *, absent: Sequence[int] = ()) -> float:
  """Returns B([A]): what the players of A earn together beyond what each earns alone.

  B([A]) = phi([A]) - sum_{i in A} phi(i), where phi([A]) is the Shapley value of A played as one
  player and phi(i) that of i while the rest of A is absent
  = sum of I(T) / (|T without A| + 1) over patterns T with at least two players of A.
  """
  if len(set(group)) != len(group) or set(group) & set(absent):
    raise ValueError(f"interaction: group {group} repeats a player or meets absent {absent}.")
  codes = np.arange(dividends.size)
  inside = np.bitwise_count(codes & _code(group))
  keep = (inside >= 2) & (codes & _code(absent) == 0)
  outside = np.bitwise_count(codes[keep]) - inside[keep]
  return float((dividends[keep] / (outside + 1)).sum())


def block_interactions(
  dividends: Dividends, group: Sequence[int], blocks: Iterable[Sequence[int]]
) -> dict[tuple[int, ...], float]:
  """Returns B([C]) of each block C of A, the other players of A being absent."""
  result = {}
  for block in blocks:
    rest = sorted(set(group) - set(block))
    result[tuple(block)] = interaction(dividends, block, absent=rest) if len(block) > 1 else 0.0
  return result


@dataclasses.dataclass(frozen=True)
class PartitionExtremes:
  """The partitions of a group with the largest and smallest sum of B([C]).

  Attributes:
    largest: B_max, the positive interactions inside the group.
    smallest: B_min, the negative ones.
    largest_blocks: the partition that attains `largest`.
    smallest_blocks: the partition that attains `smallest`.
  """

  largest: float
  smallest: float
  largest_blocks: Blocks
  smallest_blocks: Blocks

  @property
  def total(self) -> float:
    """T([A]) = B_max - B_min >= 0: the significance of all interactions inside the group."""
    return self.largest - self.smallest


@checks.inputs()
def partition_extremes(
  dividends: Dividends, group: Sequence[int], *, blocks: Literal["contiguous", "any"] = "contiguous"
) -> PartitionExtremes:
  """Returns B_max([A]) and B_min([A]) exactly, by dynamic programming over blocks.

  "contiguous" lets only neighbours in `group` (words of a sentence, say) merge, as in the paper:
  2**(|A|-1) partitions; "any" allows every partition (|A| <= 10).

  ```python
  dividends = interactions.exact.harsanyi(game)
  found = interactions.partition_extremes(dividends, [0, 1, 2])
  assert found.smallest <= 0 <= found.largest  # alone, players earn nothing together
  ```
  """
  group, size = tuple(group), len(group)
  if blocks == "contiguous":  # a part is the first players, its last block a span
    steps = [[(start, group[start:end]) for start in range(end)] for end in range(1, size + 1)]
  else:
    if size > 10:
      raise ValueError(f"partition_extremes: 'any' enumerates |A| <= 10 players, got {size}.")
    pick = [tuple(group[b] for b in range(size) if code >> b & 1) for code in range(1 << size)]
    steps = []
    for code in range(1, 1 << size):  # the block of its first player, the largest first
      inside = (part for part in range(code, 0, -1) if part | code == code and part & code & -code)
      steps.append([(code ^ part, pick[part]) for part in inside])
  worth = block_interactions(dividends, group, {block for options in steps for _, block in options})
  best = []
  for sign in (1.0, -1.0):
    table: list[tuple[float, Blocks]] = [(0.0, ())]
    for options in steps:
      found = [(table[p][0] + sign * worth[block], (*table[p][1], block)) for p, block in options]
      table.append(max(found, key=lambda option: option[0]))
    value, parts = table[-1]
    best.append((value, tuple(sorted(parts, key=lambda block: group.index(block[0])))))
  (high, high_blocks), (low, low_blocks) = best
  return PartitionExtremes(high, -low, high_blocks, low_blocks)


@dataclasses.dataclass(frozen=True)
class Tree:
  """One node of a tree of players.

  Attributes:
    players: what the node spans.
    interaction: B of the span, the two children being its players' blocks; 0 at a leaf.
    total: T of the span; 0 at a leaf.
    children: two nodes, or none at a leaf.
  """

  players: tuple[int, ...]
  interaction: float
  total: float
  children: tuple["Tree", ...] = ()

  def to_json(self) -> dict[str, object]:
    """Returns nested plain dictionaries."""
    children = [child.to_json() for child in self.children]
    return {**vars(self), "players": list(self.players), "children": children}


@checks.inputs()
def tree(dividends: Dividends, players: Sequence[int]) -> Tree:
  """Merges the neighbours with the largest T per player, again and again, until one node is left.

  Paper: Zhang et al. 2021, arXiv:2010.13564, Sec. 4 (trees of words).
  Deviation: the paper learns the partition by gradient, here T is exact; spans are compared by T
  per player, because T itself never falls when a span grows in the games of interest.

  ```python
  root = interactions.tree(interactions.exact.harsanyi(game), [0, 1, 2, 3, 4])
  left, right = root.children
  ```
  """
  nodes = [Tree((player,), 0.0, 0.0) for player in players]
  while len(nodes) > 1:
    spans = [(*a.players, *b.players) for a, b in itertools.pairwise(nodes)]
    extremes = [partition_extremes(dividends, span) for span in spans]
    best = max(range(len(spans)), key=lambda index: extremes[index].total / len(spans[index]))
    merged = Tree(
      spans[best],
      interaction(dividends, spans[best]),
      extremes[best].total,
      (nodes[best], nodes[best + 1]),
    )
    nodes[best : best + 2] = [merged]
  return nodes[0]


@checks.inputs()
def patch_tree(game: Game, *, grid: int) -> Tree:
  """Merges patches into a tree by T([A]), exactly; grid * grid <= 16.

  Neighbours in the order of reading may merge; every other row is read backwards, so neighbours
  touch.

  ```python
  game = interactions.image_game(logits_fn, images[0], labels[0], grid=3)
  root = interactions.patch_tree(game, grid=3)
  ```
  """
  cells = np.arange(grid * grid).reshape(grid, grid)
  cells[1::2] = cells[1::2, ::-1]
  return tree(_exact.harsanyi(game), [int(cell) for cell in cells.ravel()])


@checks.inputs()
def tree_rows(tree: Tree) -> list[dict[str, Any]]:
  """Returns the nodes of a tree, children before parents; "left" and "right" are row numbers.

  Leaves have "player"; other nodes have B of their span ("interaction") and T ("total").

  ```python
  root = interactions.tree(interactions.exact.harsanyi(game), [0, 1, 2, 3, 4])
  assert len(interactions.tree_rows(root)) == 9  # five leaves, four mergers
  ```
  """
  rows: list[dict[str, Any]] = []

  def add(node: Tree) -> int:
    children = [add(child) for child in node.children]
    row: dict[str, Any] = {"step": len(rows), "size": len(node.players)}
    if children:
      row |= {"left": children[0], "right": children[1]}
      row |= {"interaction": node.interaction, "total": node.total}
    else:
      row["player"] = node.players[0]
    rows.append(row)
    return len(rows) - 1

  add(tree)
  return rows
