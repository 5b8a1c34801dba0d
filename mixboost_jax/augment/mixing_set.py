# SPDX-License-Identifier: Apache-2.0
"""A procedural set of structurally complex pictures for PixMix; nothing is downloaded.

Deviation: the PixMix paper uses about 14,000 downloaded fractals and 5,000 feature visualisations;
these families stand in for both and are measured separately.
"""

import functools

import jax
import jax.numpy as jnp

from mixboost_jax import checks, keys
from mixboost_jax.array_types import Image, Images, PRNGKey, PRNGKeys
from mixboost_jax.augment import fractals, parameters, textures
from mixboost_jax.image.quantize import from_levels, to_levels

FAMILIES = {
  "ifs": fractals.ifs,
  "escape_time": fractals.escape_time,
  "dead_leaves": textures.dead_leaves,
  "spectral_noise": textures.spectral_noise,
  "pattern_network": textures.pattern_network,
  "gabor_mixture": textures.gabor_mixture,
}


@checks.inputs()
def mixing_images(
  key: PRNGKey, num: int, *, size: int = 36, families: tuple[str, ...] = tuple(FAMILIES)
) -> Images:
  """Generates `num` pictures; picture i is of family i mod the number of families.

  Picture i is the same whatever `num` is. Values are whole 8-bit levels, so that a cache of
  `image.to_levels(...)` loses nothing.

  Args:
    key: root of all pictures.
    num: how many, >= 0.
    size: side in pixels; a little more than the training pictures leaves room for random windows.
    families: some of `FAMILIES`.
  """
  parameters.check("mixing_images", size=size)
  unknown = [name for name in families if name not in FAMILIES]
  if unknown or not families or num < 0:
    raise ValueError(
      f"mixing_images: expected num >= 0 and families among {', '.join(FAMILIES)}; "
      f"got num={num}, families={families!r}."
    )
  if num == 0:
    return jnp.zeros((0, size, size, 3))
  each = keys.per_example(key, num)
  order, parts = [], []
  for f, name in enumerate(families):
    members = jnp.arange(f, num, len(families))
    if len(members):
      order.append(members)
      parts.append(_generate(each[members], family=name, size=size))
  place = jnp.argsort(jnp.concatenate(order))
  return jnp.concatenate(parts)[place]


@functools.partial(jax.jit, static_argnames=("family", "size"))
def _generate(each: PRNGKeys, *, family: str, size: int) -> Images:
  def one(key: PRNGKey) -> Image:
    return from_levels(to_levels(FAMILIES[family](key, size=size)))

  return jax.lax.map(one, each)
