# SPDX-License-Identifier: Apache-2.0
"""How PixMix combines two pictures; all of them act on pixels in [0, 1] and the result is clipped.

Paper: Hendrycks et al. 2022, arXiv:2112.05135, Sec. 3 (add, multiply); the others are the
experimental ones of the released code. Symbols: a, b are the exponents or factors.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.image.quantize import rounded

Pixels = Float[Array, "*n C"]
Scalars = Float[Array, "*m"]
Mixing = Callable[[Pixels, Pixels, Scalars, Scalars, Scalars], Pixels]

_TINY = 1e-37  # smallest base of a power with a negative exponent


def replace(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns the second picture."""
  return jnp.broadcast_to(v, u.shape)


def add(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns a u + b v, on pixels in [-1, 1]."""
  return (rounded(a * (2 * u - 1)) + rounded(b * (2 * v - 1)) + 1) / 2


def multiply(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns u^a v^b, on pixels in [0, 2]."""
  # One exponential instead of two powers.
  exponent = rounded(a * jnp.log(jnp.maximum(2 * u, _TINY))) + rounded(
    b * jnp.log(jnp.maximum(2 * v, _TINY))
  )
  return jnp.where(u > 0, jnp.exp(exponent) / 2, 0.0)


def screen(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Multiplies the negatives."""
  return 1 - multiply(1 - u, 1 - v, a, b, coin)


def overlay(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Multiplies where the first picture is dark and screens where it is bright, or the reverse.

  Deviation: both use the same (a, b); the released code draws them twice.
  """
  dark = jnp.where(coin < 0.5, u - 0.5, 0.5 - u) < 0
  return jnp.where(dark, multiply(u, v, a, b, coin), screen(u, v, a, b, coin))


def darken_or_lighten(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Takes the darker pixels, or the brighter ones; a and b do nothing."""
  return jnp.where(coin < 0.5, jnp.minimum(u, v), jnp.maximum(u, v))


def swap_channel(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Takes one channel of the second picture; a and b do nothing."""
  channels = u.shape[-1]
  chosen = jnp.minimum(jnp.floor(coin * channels), channels - 1)
  each = jnp.arange(channels, dtype=u.dtype).reshape(*(1,) * (u.ndim - 1), channels)
  return jnp.where(each == chosen, v, u)


MIXINGS: dict[str, Mixing] = {
  "add": add,
  "multiply": multiply,
  "screen": screen,
  "overlay": overlay,
  "darken_or_lighten": darken_or_lighten,
  "swap_channel": swap_channel,
}
