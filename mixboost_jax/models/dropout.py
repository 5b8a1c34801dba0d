# SPDX-License-Identifier: Apache-2.0
"""Dropout whose mask belongs to the example, not to the batch.

A threefry generator costs more than the convolution it regularises on some backends, and asking it
for 16 bits costs as much as asking for 32. So threefry gives 64 bits per row and forward pass, and
a keyed mixing function of the position turns them into the bits of every mask.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from mixboost_jax.array_types import PRNGKeys

_LEVELS = 2**16
_STEP = 0x9E3779B9  # 2^32 / golden ratio, odd: spreads consecutive numbers


def seeds_of(keys: PRNGKeys) -> UInt32[Array, "N 2"]:
  """Returns the 64 bits per row from which all its masks follow."""
  return jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)


def dropout(
  seeds: UInt32[Array, "N 2"], inputs: Float[Array, "N *shape"], *, rate: float, layer: int
) -> Float[Array, "N *shape"]:
  """Zeroes each value with probability `rate` and scales the others up.

  A row's mask depends on its seed and on `layer` only: it is the same in every batch, on any
  number of devices. Two values share one 32-bit word, so `rate` is rounded to a multiple of
  1 / 65536; the scale uses the rounded rate, so the mean is preserved exactly.

  Paper: Srivastava et al. 2014, JMLR 15, Sec. 4, in the form that scales while training.

  Args:
    seeds: see `seeds_of`. Views of an example with the same key share their mask.
    inputs: values, channels last.
    rate: probability of a zero, in [0, 1).
    layer: index of the dropout layer within the network.
  """
  threshold = min(round(rate * _LEVELS), _LEVELS - 1)
  if threshold == 0:
    return inputs
  *shape, channels = inputs.shape[1:]
  words = jax.vmap(lambda seed: _words(seed, (*shape, (channels + 1) // 2), layer))(seeds)
  bits = jnp.concatenate([words & (_LEVELS - 1), words >> 16], axis=-1)[..., :channels]
  scale = jnp.asarray(_LEVELS / (_LEVELS - threshold), inputs.dtype)
  return jnp.where(bits >= threshold, inputs * scale, jnp.zeros((), inputs.dtype))


def _words(seed: UInt32[Array, " 2"], shape: tuple[int, ...], layer: int) -> UInt32[Array, "..."]:
  """Returns one random word per position: mix(mix(step * position + k1) ^ k2)."""
  layer_step = jnp.uint32(layer * _STEP % 2**32)
  first, second = _mix(seed[0] + layer_step), _mix(seed[1] ^ layer_step)
  position = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
  return _mix(_mix(position * jnp.uint32(_STEP) + first) ^ second)


def _mix(word: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
  """Bijection of 32-bit words in which every input bit flips each output bit half of the time.

  The multipliers are those of the `hash-prospector` search (C. Wellons, 2018-2023, public domain).
  """
  word = (word ^ (word >> 16)) * jnp.uint32(0x21F0AAAD)
  word = (word ^ (word >> 15)) * jnp.uint32(0xD35A2D97)
  return word ^ (word >> 15)
