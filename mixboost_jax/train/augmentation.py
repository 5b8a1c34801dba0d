# SPDX-License-Identifier: Apache-2.0
"""Flip, crops and policy of the training pictures, as one function of one key per example.

Where pictures are decoded while training, the host cuts the resized crops out of the full pictures
with the draws that the compiled step would have made; everything else stays in the step.
"""

import functools
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from mixboost_jax import augment, corruptions, data, keys, target
from mixboost_jax.array_types import AnyKey, Images, PRNGKey, PRNGKeys, SoftLabels
from mixboost_jax.runtime import log
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Augment, Settings
from mixboost_jax.train import generated

Policy = Callable[[PRNGKeys, Images, SoftLabels], tuple[Array, Array]]
Windows = Callable[[np.ndarray, int], list[Callable[[int, int], tuple[int, int, int, int]]]]
"""`(ids, epoch) -> for each example (height, width) -> (top, left, height, width)` of a window."""


def training_augmentation(
  settings: Settings, dataset: data.Dataset, mesh: Mesh, *, num_epochs: int = 1
) -> jax.tree_util.Partial:
  """Returns flip, crops and policy as one function: a `step.Augment`.

  With `objective.jsd_weight` its rows are the clean picture (flip and crop) and two independent
  draws of the policy for each example.

  The arrays that the policy needs are leaves of what is returned: as arguments of a compiled
  function they are not copied into its program.

  Args:
    settings: of the run.
    dataset: whose pictures are augmented.
    mesh: over which the batch is split.
    num_epochs: of the run, for a policy that is switched on and off.
  """
  stages = {name: _on_images(fn) for name, fn in _stages(settings.augment, dataset).items()}
  for line in policy_warnings(settings.augment.policy):
    log.warn(line)
  whole = meshes.replicated(mesh)
  make = functools.partial(policy_arrays, settings, dataset)
  made = jax.eval_shape(make) if target.is_on_paper() else make()
  arrays = {name: data.place(_rows(array), whole) for name, array in made.items()}
  shapes = {name: array.shape for name, array in made.items()}

  def run(
    arrays: dict[str, Array],
    example_keys: PRNGKeys,
    images: Images,
    labels: SoftLabels,
    epoch: Int[Array, ""] | int = 0,
    first_keys: PRNGKeys | None = None,
  ) -> tuple[Array, Array]:
    resources = {name: rows.reshape(shapes[name]) for name, rows in arrays.items()}
    resources |= {"mesh": mesh, "batch_axes": meshes.AXES}
    policy = augment.build(settings.augment.policy, table=POLICIES, **resources)
    active = in_some_epochs(policy, settings.augment, epoch=epoch, num_epochs=num_epochs)
    if settings.objective.jsd_weight > 0:
      active = beside_clean(active, num_copies=2)
    every = [*stages.values(), active]
    own = keys.split_each(example_keys, len(every))
    if settings.augment.alternate_flip:
      first = example_keys if first_keys is None else first_keys
      own = (keys.split_each(first, len(every))[0], *own[1:])
      every[0] = _on_images(functools.partial(augment.alternating_flip, epoch=epoch))
    for stage, stage_keys in zip(every, own, strict=True):
      images, labels = stage(stage_keys, images, labels)
    return images, labels

  return jax.tree_util.Partial(run, arrays)


def _rows(pictures: Any) -> Any:
  """Returns pictures [..., H, W, C] as rows: a TPU would turn them around in every step."""
  shape = math.prod(pictures.shape[:-3]), math.prod(pictures.shape[-3:])
  if target.is_on_paper():
    return jax.ShapeDtypeStruct(shape, pictures.dtype)
  return pictures.reshape(shape)


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
    def own(name: str, epoch: Any) -> PRNGKeys:
      each = keys.example_keys(root, keys.Stream.AUGMENT, ids, epoch=epoch)
      return keys.split_each(each, len(names) + 1)[names.index(name)]

    mirrored = jnp.zeros(ids.shape, bool)
    if settings.augment.alternate_flip:
      mirrored = augment.draw_flips(own("flip", 0)) ^ (epoch % 2 == 1)
    elif settings.augment.flip:
      mirrored = augment.draw_flips(own("flip", epoch))
    return jax.vmap(augment.draw_attempts)(own("resized_crop", epoch)), mirrored

  def windows(ids: np.ndarray, epoch: int) -> list[Any]:
    attempts, mirrored = jax.device_get(draw(ids, np.int32(epoch)))
    return [
      functools.partial(_place, u, mirrored=bool(flip))
      for u, flip in zip(attempts, mirrored, strict=True)
    ]

  return windows


def policy_arrays(settings: Settings, dataset: data.Dataset) -> dict[str, Any]:
  """Returns the arrays that the policy of a run takes beside the batch, by name."""
  used = augment.entries_in(settings.augment.policy, table=POLICIES)
  needed = {name for entry, _ in used for name in entry.needs}
  return {name: make(settings, dataset) for name, make in _ARRAYS.items() if name in needed}


def mixing_pictures(settings: Settings, dataset: data.Dataset) -> Any:
  """Returns the pictures that PixMix mixes with, as levels, a little larger than the images.

  They are those of `config.augment.mixing_dir`, of the GAN in `config.augment.generator`, or
  procedural ones.

  Paper: Hendrycks et al. 2022 (PixMix), arXiv:2112.05135: a random window of 32 out of 36 pixels,
    of 224 out of 256.
  Deviation: procedural pictures, where the paper downloads fractals and feature visualisations.
  """
  height, width, channels = dataset.image_shape
  size = max(height, width) * 8 // 7
  if settings.augment.mixing_dir:
    return data.read_mixing_folder(settings.augment.mixing_dir, size=size, num_channels=channels)
  if settings.augment.generator:
    return generated.class_pictures(settings, dataset).reshape(-1, *dataset.image_shape)
  key = keys.stream_key(keys.root_key(settings.seed), keys.Stream.DATA)
  number, families = settings.augment.num_mixing_images, settings.augment.mixing_families
  chosen = {"families": families} if families else {}
  pictures = augment.mixing_images(key, number, size=size, **chosen)
  if channels == 1:  # grey as Pillow has it
    weights = jnp.asarray((0.299, 0.587, 0.114))
    pictures = jnp.einsum("mhwc,c->mhw", pictures, weights)[..., None]
  return jnp.round(pictures * 255).astype(jnp.uint8)


BORDERS = {"zero": "fill", "reflect": "reflect"}
"""`config.augment.crop_mode` -> `border` of `augment.random_crop`."""
_ARRAYS = {"mixing_images": mixing_pictures, "class_pictures": generated.class_pictures}
"""How a run makes what an augmentation may need."""


def _stages(
  chosen: Augment, dataset: data.Dataset | None
) -> dict[str, Callable[[PRNGKeys, Images], Images]]:
  """Returns what happens before the policy. Keys go by position: a stage of the host keeps its."""
  stages: dict[str, Any] = {}
  if chosen.flip:
    stages["flip"] = augment.random_flip
  if padding := chosen.crop_padding:
    border = BORDERS[chosen.crop_mode]
    stages["crop"] = functools.partial(augment.random_crop, padding=padding, border=border)
  if size := chosen.resized_crop:
    cut = functools.partial(augment.random_resized_crop, size=size)
    on_host = dataset is not None and dataset.is_streamed
    stages["resized_crop"] = (lambda key, images: images) if on_host else cut
  return stages


def _place(
  attempts: np.ndarray, height: int, width: int, *, mirrored: bool
) -> tuple[int, int, int, int]:
  window = augment.place_window(attempts, height=height, width=width, xp=np)
  top, left, rows, columns = (int(value) for value in window)
  return top, (width - left - columns if mirrored else left), rows, columns


def _on_images(fn: Callable[[PRNGKeys, Images], Images]) -> Callable[..., tuple[Array, Array]]:
  return lambda example_keys, images, labels: (fn(example_keys, images), labels)


def beside_clean(policy: Policy, *, num_copies: int) -> Policy:
  """Returns a policy whose rows are, for each example, the picture and independent copies of it.

  All copies are made by one call. Rows of an example are neighbours (row = example * (1 +
  num_copies) + picture), so a batch that is split over devices stays where it is.

  Args:
    policy: changes each example by itself.
    num_copies: changed pictures beside the clean one.
  """

  def run(each: PRNGKeys, images: Images, labels: SoftLabels) -> tuple[Array, Array]:
    copy_keys = jnp.stack(keys.split_each(each, num_copies), axis=1).reshape(-1)
    repeated = (jnp.repeat(x, num_copies, axis=0) for x in (images, labels))
    copies, _ = policy(copy_keys, *repeated)
    copies = copies.reshape(-1, num_copies, *images.shape[1:])
    rows = jnp.concatenate([images[:, None], copies], axis=1).reshape(-1, *images.shape[1:])
    return rows, jnp.repeat(labels, 1 + num_copies, axis=0)

  return run


def is_on(
  augmentation: Augment, *, epoch: Int[Array, ""] | int, num_epochs: int
) -> Bool[Array, ""] | bool:
  """Tells whether the settings switch the policy on in `epoch`; plain True if it is always on.

  Paper: Inoue 2018, arXiv:1801.02929, Sec. 3.1 (SamplePairing: off at first and at last, in
    between on and off in turns).
  """
  if (augmentation.start, augmentation.end, augmentation.off_epochs) == (0, 1, 0):
    return True
  return augment.sample_pairing_active(
    epoch,
    num_epochs=num_epochs,
    start=augmentation.start,
    end=augmentation.end,
    on=augmentation.on_epochs,
    off=augmentation.off_epochs,
  )


def in_some_epochs(
  policy: Policy, augmentation: Augment, *, epoch: Int[Array, ""] | int, num_epochs: int
) -> Policy:
  """Returns the policy, or one that leaves pictures alone where `epoch` is switched off."""
  active = is_on(augmentation, epoch=epoch, num_epochs=num_epochs)
  if active is True:
    return policy

  def run(each: PRNGKeys, images: Images, labels: SoftLabels) -> tuple[Array, Array]:
    return jax.lax.cond(active, policy, augment.identity, each, images, labels)

  return run


def corrupt(key: AnyKey, images: Images, *, corruption: str, severity: int) -> Images:
  """Corrupts every picture of a batch in the same way.

  A network trained on a corruption of a benchmark no longer meets it unseen, so whoever asks for
  one is told which scores that concerns (`policy_warnings`).

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    corruption: a key of `corruptions.CORRUPTIONS` with severities for this size of picture.
    severity: 1..5.
  """
  return corruptions.corrupt(key, images, name=corruption, severity=severity)


def _describe_corrupt(scene: augment.Scene, *, corruption: str, severity: int) -> list[Any]:
  return [{"op": "corrupt", "corruption": corruption, "severity": severity}]


def _describe_gan(scene: augment.Scene, *, class_pictures: Array, p: float) -> list[Any]:
  swapped, chosen = augment.draw_swaps(scene.own, p=p, num_pictures=class_pictures.shape[1])
  if p == 0 or not bool(swapped[0]):
    return [{"op": "gan", "applied": False}]
  return [{"op": "gan", "picture_of_class": int(chosen[0])}]


def _a_corruption(value: Any) -> str | None:
  known = isinstance(value, str) and value in corruptions.CORRUPTIONS
  return None if known else f"one of {', '.join(corruptions.CORRUPTIONS)}"


def _a_severity(value: Any) -> str | None:
  return None if value in (1, 2, 3, 4, 5) else "1, 2, 3, 4 or 5"


POLICIES = ChainMap(
  augment.AUGMENTATIONS,
  {
    "corrupt": augment.Entry(
      corrupt,
      _describe_corrupt,
      rules={"corruption": _a_corruption, "severity": _a_severity},
    ),
    "gan": augment.Entry(augment.swap_in_class, _describe_gan),
  },
)


def policy_problem(policy: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with a policy, or None: a check for `settings.resolve_runs`."""
  return augment.policy_problem(policy, table=POLICIES)


def families_problem(families: Sequence[str]) -> str | None:
  """Returns what is wrong with `config.augment.mixing_families`, or None."""
  known = tuple(augment.FAMILIES)
  return None if set(families) <= set(known) else f"expected some of {known}, got {families!r}"


def policy_warnings(policy: Mapping[str, Any]) -> list[str]:
  """Returns one line for every corruption of a benchmark that a policy trains on."""
  used = augment.entries_in(policy, table=POLICIES)
  names = dict.fromkeys(own["corruption"] for entry, own in used if entry.fn is corrupt)
  found = (corruptions.training_warning(name) for name in names)
  return [f"config.augment.policy: {line}" for line in found if line]
