# SPDX-License-Identifier: Apache-2.0
"""Deterministic picture kernels that augmentations, masks, corruptions and defenses share.

No function here samples. Each works on one picture and is lifted with `jax.vmap`, unless its
docstring speaks of batches. `pil` works on pictures in [0, 1]; the modules it is made of (`levels`,
`affine`) work on 8-bit levels.
"""

from mixboost_jax.image import affine, levels, pil
from mixboost_jax.image.boxes import box_mask, crop, fill_where, pad
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import gaussian_blur, gaussian_kernel, resize_window

__all__ = [
  "affine",
  "box_mask",
  "crop",
  "fill_where",
  "from_levels",
  "gaussian_blur",
  "gaussian_kernel",
  "levels",
  "pad",
  "pil",
  "resize_window",
  "to_levels",
]


def __dir__() -> list[str]:
  return __all__
