# SPDX-License-Identifier: Apache-2.0
"""Glass blur: pixels trade places with near ones, in an order that matters.

The original sweeps rows and columns downwards and writes `x[h, w], x[h', w'] = x[h', w'], x[h, w]`
on views of one array, so both sides read memory that the first assignment has already changed:
the effect is the copy `x[h, w] <- x[h', w']`. Each pixel then takes what its partner holds, which
is the partner's own final value if the sweep has passed it and its old value if not. Following
those pointers by doubling gives where every pixel comes from, without walking the picture.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.image.axes import gaussian_blur
from mixboost_jax.image.quantize import from_levels, to_levels

Sources = Int[Array, " P"]
"""Entry p is the pixel (row * width + column) whose value pixel p shows."""
Offsets = Int[Array, "2 H W"]


def swept(height: int, width: int, delta: int) -> np.ndarray:
  """Returns True at pixels that a sweep visits: rows and columns delta + 1 .. side - delta."""
  rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
  inside = (rows > delta) & (rows <= height - delta)
  return inside & (columns > delta) & (columns <= width - delta)


def partners(offsets: Offsets, *, delta: int) -> Sources:
  """Returns the partner of every pixel; pixels that no sweep visits are their own."""
  _, height, width = offsets.shape
  rows = jnp.arange(height)[:, None] + offsets[0]
  columns = jnp.arange(width)[None, :] + offsets[1]
  own = jnp.arange(height * width).reshape(height, width)
  return jnp.where(swept(height, width, delta), rows * width + columns, own).reshape(-1)


def copy_sources(partner: Sources, visited: np.ndarray) -> Sources:
  """Returns the sources after one sweep of copies in descending order of pixels.

  A partner with a larger number has been visited before, so its own source counts; the others
  still hold their old value. Pointers among the former only climb, so they end.
  """
  size = partner.shape[0]
  own = jnp.arange(size)
  follows = (partner > own) & jnp.asarray(visited.reshape(-1))[partner]
  hop = jnp.where(follows, partner, own)
  for _ in range(max(size - 1, 1).bit_length()):
    hop = hop[hop]
  return partner[hop]


def swap_sources(partner: Sources, visited: np.ndarray) -> Sources:
  """Returns the sources after one sweep of true swaps, one pixel after the other."""
  order = jnp.asarray(np.flatnonzero(visited)[::-1].copy(), jnp.int32)

  def swap(i: Array, sources: Sources) -> Sources:
    here = order[i]
    there = partner[here]
    a, b = sources[here], sources[there]
    return sources.at[here].set(b).at[there].set(a)

  start = jnp.arange(partner.shape[0], dtype=partner.dtype)
  if not order.shape[0]:
    return start
  return jax.lax.fori_loop(0, order.shape[0], swap, start)


def shuffle_pixels(image: Image, sources: Sources) -> Image:
  """Returns the picture whose pixel p is pixel `sources[p]` of `image`."""
  flat = image.reshape(-1, image.shape[2])
  return flat.at[sources].get(mode="promise_in_bounds").reshape(image.shape)


@checks.inputs()
def glass_blur(
  key: PRNGKey,
  image: Image,
  *,
  sigma: float,
  delta: int,
  num_sweeps: int,
  true_swap: bool = False,
) -> Image:
  """Blurs, moves every pixel by up to `delta`, and blurs again.

  Args:
    key: of this example.
    image: cut to 8-bit levels after the first blur.
    sigma: of both blurs, pixels.
    delta: offsets are uniform over -delta .. delta - 1.
    num_sweeps: how often the picture is swept.
    true_swap: exchange pixels, as the benchmark meant, instead of copying, as its code does.
  """
  height, width, _ = image.shape
  visited = swept(height, width, delta)
  blurred = from_levels(to_levels(gaussian_blur(image, sigma=sigma)))
  if not visited.any():
    return gaussian_blur(blurred, sigma=sigma)
  sources = jnp.arange(height * width)
  for offsets in jax.random.randint(key, (num_sweeps, 2, height, width), -delta, delta):
    partner = partners(offsets, delta=delta)
    step = swap_sources if true_swap else copy_sources
    sources = sources[step(partner, visited)]
  return gaussian_blur(shuffle_pixels(blurred, sources), sigma=sigma)
