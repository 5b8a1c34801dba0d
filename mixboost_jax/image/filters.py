# SPDX-License-Identifier: Apache-2.0
"""Linear filters of one picture."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Image


@checks.inputs(values="never")
def gaussian_kernel(sigma: Float[Array, ""] | float | int, *, radius: int) -> Float[Array, " K"]:
  """Returns 2 radius + 1 normalised weights; sigma in pixels, > 0."""
  offsets = jnp.arange(-radius, radius + 1)
  weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
  return weights / weights.sum()


@checks.inputs(values="never")
def gaussian_blur(
  image: Image, sigma: Float[Array, ""] | float | int, *, radius: int, mode: str = "reflect"
) -> Image:
  """Blurs both directions with the same Gaussian.

  Args:
    image: values in [0, 1].
    sigma: standard deviation in pixels, > 0; may be traced.
    radius: pixels at which the kernel is cut.
    mode: of `jnp.pad` at the border: "reflect" (without the edge pixel), "symmetric" or "edge".
  """
  height, width, _ = image.shape
  if mode == "reflect" and radius >= min(height, width):
    raise ValueError(
      f"gaussian_blur: radius {radius} cannot be reflected in a picture of {height}x{width}; "
      "use a smaller radius or mode='edge'."
    )
  kernel = gaussian_kernel(sigma, radius=radius)
  padded = jnp.pad(image, ((radius, radius), (0, 0), (0, 0)), mode=mode)
  rows = sum(kernel[i] * padded[i : i + height] for i in range(2 * radius + 1))
  padded = jnp.pad(jnp.asarray(rows), ((0, 0), (radius, radius), (0, 0)), mode=mode)
  blurred = sum(kernel[i] * padded[:, i : i + width] for i in range(2 * radius + 1))
  return jnp.asarray(blurred)
