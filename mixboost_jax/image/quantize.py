# SPDX-License-Identifier: Apache-2.0
"""Between pictures in [0, 1] and the 8-bit levels on which the classical operations are defined.

A level has no useful gradient: whatever goes through `to_levels` has the gradient 0. `cut` and
`to_nearest` keep the picture and pass gradients on as if they did nothing (straight-through).
"""

import jax
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


@jax.custom_jvp
def cut(images: Float[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Returns `from_levels(to_levels(images))`; its gradient is that of the identity."""
  return from_levels(to_levels(images))


@jax.custom_jvp
def to_nearest(images: Float[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Rounds to the nearest level, halves up as Pillow; its gradient is that of the identity."""
  return from_levels(to_levels(images + 0.5 / LEVELS))


cut.defjvps(lambda tangent, result, images: tangent)
to_nearest.defjvps(lambda tangent, result, images: tangent)


def rounded(product: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Keeps a product from being fused with a following addition into one rounding.

  Compilers contract `a * b + c` where they like, which moves results across the boundaries of
  levels and makes two formulations of one operation disagree. A clip that never clips (all values
  here are far below 2^24) stops them on every backend.
  """
  return jnp.clip(product, -(2.0**24), 2.0**24)
