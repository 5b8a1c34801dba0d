# SPDX-License-Identifier: Apache-2.0
"""A policy applied in other ways than once to every picture: independent copies, some epochs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mixboost_jax import augment, keys
from mixboost_jax.array_types import Images, PRNGKeys, SoftLabels
from mixboost_jax.schema import Augment

Policy = Callable[[PRNGKeys, Images, SoftLabels], tuple[Array, Array]]


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
