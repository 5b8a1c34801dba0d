# SPDX-License-Identifier: Apache-2.0
"""Between pictures in [0, 1] and the 8-bit levels on which the classical operations are defined."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from mixboost_jax import checks

LEVELS = 255
_SLACK = 2.0**-10  # a level k that was stored as k / 255 must come back as k, not as k - 1


@checks.inputs(values="never")
def to_levels(images: Float[Array, "*n C"]) -> UInt8[Array, "*n C"]:
  """Returns floor(255 x) clipped to 0..255, as converting a float picture to 8 bits does."""
  return jnp.floor(jnp.clip(images * LEVELS, 0, LEVELS) + _SLACK).astype(jnp.uint8)


@checks.inputs(values="never")
def from_levels(levels: UInt8[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Returns level / 255 as float32."""
  return levels.astype(jnp.float32) / LEVELS


def rounded(product: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Keeps a product from being fused with a following addition into one rounding.

  Compilers contract `a * b + c` where they like, which moves results across the boundaries of
  levels and makes two formulations of one operation disagree. A clip that never clips (all values
  here are far below 2^24) stops them on every backend.
  """
  return jnp.clip(product, -(2.0**24), 2.0**24)
