# SPDX-License-Identifier: Apache-2.0
"""Blocks applied one after the other."""

from collections.abc import Iterable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.models.mode import Mode


class Sequence(nnx.Module):
  """Blocks `block0`, `block1`, ..., unrolled: a compiled loop around them is slow on CPU.

  Args:
    blocks: called as `block(inputs, mode)`.
  """

  def __init__(self, blocks: Iterable[Any]):
    self.length = 0
    for block in blocks:
      setattr(self, f"block{self.length}", block)
      self.length += 1

  def __call__(self, inputs: Float[Array, "N H W C"], mode: Mode) -> Float[Array, "N P Q D"]:
    """Applies all blocks."""
    hidden = inputs
    for i in range(self.length):
      hidden = getattr(self, f"block{i}")(hidden, mode)
    return hidden
