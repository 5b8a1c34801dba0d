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
  place,
  take,
  to_device,
  to_unit,
)
from mixboost_jax.data.folders import read_mixing_images as read_mixing_folder
from mixboost_jax.data.loading import READERS, SHAPES_VARIANTS, load, load_shapes_variant
from mixboost_jax.data.places import MissingDataError, default_places
from mixboost_jax.data.stored import StoredLabels, StoredPictures
from mixboost_jax.data.streaming import Ahead, Decoder, Request

__all__ = [
  "PADDING_ID",
  "READERS",
  "SHAPES_VARIANTS",
  "Ahead",
  "Batch",
  "Dataset",
  "Decoder",
  "DeviceSplit",
  "MissingDataError",
  "Request",
  "Split",
  "StoredLabels",
  "StoredPictures",
  "default_places",
  "epoch_order",
  "load",
  "load_shapes_variant",
  "padded_batches",
  "place",
  "read_mixing_folder",
  "released",
  "take",
  "to_device",
  "to_unit",
]


def __dir__() -> list[str]:
  return sorted(__all__)
