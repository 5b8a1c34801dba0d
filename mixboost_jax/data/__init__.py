# SPDX-License-Identifier: Apache-2.0
"""Pictures with labels: procedural, from files, and as batches on the device."""

from mixboost_jax.data import released
from mixboost_jax.data.dataset import Dataset, Split
from mixboost_jax.data.device import (
  PADDING_ID,
  Batch,
  DeviceSplit,
  epoch_order,
  padded_batches,
  take,
  to_device,
)
from mixboost_jax.data.loading import READERS, SHAPES_VARIANTS, load, load_shapes_variant
from mixboost_jax.data.locate import MissingDataError, default_places
from mixboost_jax.data.mixing_folder import read as read_mixing_folder

__all__ = [
  "PADDING_ID",
  "READERS",
  "SHAPES_VARIANTS",
  "Batch",
  "Dataset",
  "DeviceSplit",
  "MissingDataError",
  "Split",
  "default_places",
  "epoch_order",
  "load",
  "load_shapes_variant",
  "padded_batches",
  "read_mixing_folder",
  "released",
  "take",
  "to_device",
]
