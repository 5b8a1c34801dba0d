# SPDX-License-Identifier: Apache-2.0
"""Flip, crops and policy of the training pictures, as one function of one key per example.

Where pictures are decoded while training, the host cuts the resized crops out of the full pictures
with the draws that the compiled step would have made; everything else stays in the step.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from mixboost_jax import augment, data, keys
from mixboost_jax.array_types import Images, PRNGKey, PRNGKeys, SoftLabels
from mixboost_jax.augment import crops, photographic
from mixboost_jax.runtime import log
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Augment, Settings
from mixboost_jax.train import copies, policies

Windows = Callable[[np.ndarray, int], list[Callable[[int, int], tuple[int, int, int, int]]]]
"""`(ids, epoch) -> for each example (height, width) -> (top, left, height, width)` of a window."""


def training_augmentation(
  settings: Settings, dataset: data.Dataset, mesh: Mesh, *, num_epochs: int = 1
) -> jax.tree_util.Partial:
  """Returns flip, crops and policy as one function: a `step.Augment`.

  With `objective.jsd_weight` its rows are the clean picture (flip and crop) and two independent
  draws of the policy for each example.

  The pictures that PixMix mixes with are a leaf of what is returned: as an argument of a compiled
  function they are not copied into its program.

  Args:
    settings: of the run.
    dataset: whose pictures are augmented.
    mesh: over which the batch is split.
    num_epochs: of the run, for a policy that is switched on and off.
  """
  stages = [_on_images(fn) for fn in _stages(settings.augment, dataset).values()]
  for line in policies.policy_warnings(settings.augment.policy):
    log.warn(line)
  arrays = {}
  if "'pixmix'" in repr(settings.augment.policy):  # alone, or inside a composite
    whole = meshes.replicated(mesh)
    arrays["mixing_images"] = data.place(mixing_pictures(settings, dataset), whole)

  def run(
    arrays: dict[str, Array],
    example_keys: PRNGKeys,
    images: Images,
    labels: SoftLabels,
    epoch: Int[Array, ""] | int = 0,
  ) -> tuple[Array, Array]:
    resources = {**arrays, "mesh": mesh, "batch_axes": meshes.AXES}
    policy = policies.build_policy(settings.augment.policy, **resources)
    active = copies.in_some_epochs(policy, settings.augment, epoch=epoch, num_epochs=num_epochs)
    if settings.objective.jsd_weight > 0:
      active = copies.beside_clean(active, num_copies=2)
    every = [*stages, active]
    for stage, stage_keys in zip(every, keys.split_each(example_keys, len(every)), strict=True):
      images, labels = stage(stage_keys, images, labels)
    return images, labels

  return jax.tree_util.Partial(run, arrays)


def host_windows(settings: Settings, root: PRNGKey) -> Windows | None:
  """Returns what draws the windows of resized crops for pictures that the host decodes.

  They are those of `training_augmentation`, for any size of picture. That mirrors before it cuts;
  here the step mirrors what was cut, so the place of the window is mirrored first.

  Args:
    settings: of the run.
    root: of all randomness, on a device of this process.

  Returns:
    None without `augment.resized_crop`: the middle squares are taken.
  """
  if not settings.augment.resized_crop:
    return None
  names = list(_stages(settings.augment, None))

  @jax.jit
  def draw(ids: Array, epoch: Array) -> tuple[Array, Array]:
    each = keys.example_keys(root, keys.Stream.AUGMENT, ids, epoch=epoch)
    own = dict(zip(names, keys.split_each(each, len(names) + 1), strict=False))
    mirrored = crops.draw_flips(own["flip"]) if "flip" in own else jnp.zeros(ids.shape, bool)
    return jax.vmap(photographic.draw_attempts)(own["resized_crop"]), mirrored

  def windows(ids: np.ndarray, epoch: int) -> list[Any]:
    attempts, mirrored = jax.device_get(draw(ids, np.int32(epoch)))
    return [
      functools.partial(_place, u, mirrored=bool(flip))
      for u, flip in zip(attempts, mirrored, strict=True)
    ]

  return windows


def mixing_pictures(settings: Settings, dataset: data.Dataset) -> Any:
  """Returns the pictures that PixMix mixes with, as levels, a little larger than the images.

  They are those of `config.augment.mixing_dir`, or procedural ones.

  Paper: Hendrycks et al. 2022 (PixMix), arXiv:2112.05135: a random window of 32 out of 36 pixels,
    of 224 out of 256.
  Deviation: procedural pictures, where the paper downloads fractals and feature visualisations.
  """
  height, width, channels = dataset.image_shape
  size = max(height, width) * 8 // 7
  if settings.augment.mixing_dir:
    return data.read_mixing_folder(settings.augment.mixing_dir, size=size, num_channels=channels)
  key = keys.stream_key(keys.root_key(settings.seed), keys.Stream.DATA)
  pictures = augment.mixing_images(key, settings.augment.num_mixing_images, size=size)
  return jnp.round(pictures * 255).astype(jnp.uint8)


def _stages(
  chosen: Augment, dataset: data.Dataset | None
) -> dict[str, Callable[[PRNGKeys, Images], Images]]:
  """Returns what happens before the policy. Keys go by position: a stage of the host keeps its."""
  stages: dict[str, Any] = {}
  if chosen.flip:
    stages["flip"] = augment.random_flip
  if padding := chosen.crop_padding:
    stages["crop"] = functools.partial(augment.random_crop, padding=padding)
  if size := chosen.resized_crop:
    cut = functools.partial(augment.random_resized_crop, size=size)
    on_host = dataset is not None and dataset.is_streamed
    stages["resized_crop"] = (lambda key, images: images) if on_host else cut
  return stages


def _place(
  attempts: np.ndarray, height: int, width: int, *, mirrored: bool
) -> tuple[int, int, int, int]:
  window = photographic.place_window(attempts, height=height, width=width, xp=np)
  top, left, rows, columns = (int(value) for value in window)
  return top, (width - left - columns if mirrored else left), rows, columns


def _on_images(fn: Callable[[PRNGKeys, Images], Images]) -> Callable[..., tuple[Array, Array]]:
  return lambda example_keys, images, labels: (fn(example_keys, images), labels)
