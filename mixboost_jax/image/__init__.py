# SPDX-License-Identifier: Apache-2.0
"""Deterministic picture kernels that augmentations, masks, corruptions and defenses share.

No function here samples. Each works on one picture and is lifted with `jax.vmap`, unless its
docstring speaks of batches. `pil` works on pictures in [0, 1]; the modules it is made of (`point`,
`histogram`, `enhance`, `affine`) work on 8-bit levels.
"""

from mixboost_jax.image import affine, colour, enhance, histogram, pil, point
from mixboost_jax.image.boxes import box_mask, fill_where, upsample_grid
from mixboost_jax.image.filters import gaussian_blur, gaussian_kernel
from mixboost_jax.image.frame import crop, flip_left_right, pad
from mixboost_jax.image.quantize import from_levels, to_levels
from mixboost_jax.image.resize import resize_window

__all__ = [
  "affine",
  "box_mask",
  "colour",
  "crop",
  "enhance",
  "fill_where",
  "flip_left_right",
  "from_levels",
  "gaussian_blur",
  "gaussian_kernel",
  "histogram",
  "pad",
  "pil",
  "point",
  "resize_window",
  "to_levels",
  "upsample_grid",
]
