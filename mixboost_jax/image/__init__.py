# SPDX-License-Identifier: Apache-2.0
"""Deterministic picture kernels that augmentations, masks, corruptions and defenses share.

No function here samples. Each works on one picture and is lifted with `jax.vmap`, unless its
docstring speaks of batches.
"""

from mixboost_jax.image.boxes import box_mask, fill_where, upsample_grid
from mixboost_jax.image.frame import crop, flip_left_right, pad

__all__ = ["box_mask", "crop", "fill_where", "flip_left_right", "pad", "upsample_grid"]
