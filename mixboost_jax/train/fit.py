# SPDX-License-Identifier: Apache-2.0
"""Whether settings and data set fit together; `rules.py` has what a config shows by itself."""

from mixboost_jax import augment, data
from mixboost_jax.schema import Settings


def check(settings: Settings, dataset: data.Dataset) -> None:
  """Checks settings against the data, before anything is compiled or written.

  Raises:
    ValueError: naming both sides and the remedy.
  """
  num, (height, width, _) = len(dataset.train), dataset.image_shape
  if settings.train.batch_size > num:
    raise ValueError(
      f"config.train.batch_size={settings.train.batch_size} is larger than the {num} training "
      f"examples of {dataset.title}; use a smaller one."
    )
  if settings.objective.name != "erm" and settings.mask.grid > min(height, width):
    raise ValueError(
      f"config.mask.grid={settings.mask.grid} is finer than the {height}x{width} images of "
      f"{dataset.title}; use at most {min(height, width)}."
    )
  if settings.augment.resized_crop not in (0, height):
    raise ValueError(
      f"config.augment.resized_crop={settings.augment.resized_crop}: the network takes pictures of "
      f"the side of {dataset.title}; use {height}, or config.data.image_size."
    )
  if dataset.is_streamed:
    _check_streamed(settings, dataset)
  _check_mixes(settings)
  if settings.evaluate.split == "validation" and dataset.validation is None:
    raise ValueError(f"config.evaluate.split='validation': {dataset.title} has no such split.")


def _check_streamed(settings: Settings, dataset: data.Dataset) -> None:
  """Raises ValueError for what a set that stays in its files cannot do."""
  if settings.train.steps_per_call > 1:
    raise ValueError(
      f"config.train.steps_per_call={settings.train.steps_per_call}: the pictures of "
      f"{dataset.title} are decoded step by step (config.data.stream); set 1."
    )
  if settings.augment.resized_crop and settings.augment.crop_padding:
    raise ValueError(
      f"config.augment.crop_padding={settings.augment.crop_padding}: resized crops of "
      f"{dataset.title} are cut while its pictures are decoded, before anything else; set 0."
    )


def _check_mixes(settings: Settings) -> None:
  """Raises ValueError if a policy mixes examples beside what needs them apart, or mixes too."""
  policy = repr(settings.augment.policy)
  mixing = sorted(name for name in augment.MIXES_LABELS if f"'{name}'" in policy)
  if not mixing:
    return
  policy = f"config.augment.policy {mixing[0]!r}"
  if settings.objective.jsd_weight > 0:
    raise ValueError(
      f"config.objective.jsd_weight: compares pictures of one example, but {policy} mixes "
      "examples; use a policy such as augmix or pixmix."
    )
  own = {
    f"config.augment.manifold_alpha={settings.augment.manifold_alpha:g}": (
      settings.augment.manifold_alpha > 0
    ),
    "config.adversary.name='iat'": settings.adversary.name == "iat",
  }
  for key, on in own.items():
    if on:
      raise ValueError(f"{key} and {policy} would mix the same examples twice; choose one.")
