# SPDX-License-Identifier: Apache-2.0
"""Random patch masks: which cells of an image a masked view keeps."""

from mixboost_jax.masks.apply import apply, upsample
from mixboost_jax.masks.patches import (
  cell_ranks,
  keep_lowest,
  nested_patch_masks,
  num_kept,
  sample_patch_mask,
)

__all__ = [
  "apply",
  "cell_ranks",
  "keep_lowest",
  "nested_patch_masks",
  "num_kept",
  "sample_patch_mask",
  "upsample",
]
