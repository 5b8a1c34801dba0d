# SPDX-License-Identifier: Apache-2.0
"""Operations that change each level on its own: exact to Pillow, on arrays of levels of any shape.

Applied to the levels 0..255 they give the look-up table of the operation.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

Amount = Float[Array, ""] | Int[Array, ""] | float | int
Levels = UInt8[Array, "*n"]


def invert(levels: Levels) -> Levels:
  """Returns 255 - level."""
  return 255 - levels


def posterize(levels: Levels, bits: Amount) -> Levels:
  """Keeps the `bits` highest bits, 0..8; 0 gives black."""
  mask = (0xFF00 >> jnp.asarray(bits).astype(jnp.int32)) & 0xFF
  return levels & mask.astype(jnp.uint8)


def solarize(levels: Levels, threshold: Amount) -> Levels:
  """Inverts the levels at or above `threshold` in 0..256; 256 changes nothing."""
  # Integers, so that bytes are compared: level < t exactly if level < ceil(t).
  bound = jnp.ceil(jnp.asarray(threshold, jnp.float32)).astype(jnp.int16)
  return jnp.where(levels.astype(jnp.int16) < bound, levels, 255 - levels)


def solarize_add(levels: Levels, addition: Amount) -> Levels:
  """Adds `addition` (levels) to the levels below 128, clipped at 255."""
  moved = jnp.clip(levels.astype(jnp.int16) + jnp.asarray(addition).astype(jnp.int16), 0, 255)
  return jnp.where(levels < 128, moved.astype(jnp.uint8), levels)
