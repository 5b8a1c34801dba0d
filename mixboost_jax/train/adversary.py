# SPDX-License-Identifier: Apache-2.0
"""Adversarial pictures made inside the training step.

The inner attack is projected gradient ascent on the network of this very step, as it is before the
update. It runs through `loops.py`, so it is one compiled loop.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import attacks, augment, keys, losses
from mixboost_jax.array_types import Images, Logits, LogitsFn, PRNGKeys, SoftLabels
from mixboost_jax.schema import Adversary

Perturb = Callable[[PRNGKeys, Any, Any, Images, SoftLabels], tuple[Array, Array]]
"""`(one key per example, params, stats, images, labels) -> (images, labels)` of all pictures."""


def build(adversary: Adversary, apply: Callable[..., Any]) -> Perturb | None:
  """Returns the function that adds adversarial pictures to a batch; None without an adversary.

  What it returns has the pictures of one example in neighbouring rows (clean, adversarial), so a
  batch that is split over devices stays where it is.

  Args:
    adversary: of the settings.
    apply: `models.functional(model).apply`.
  """
  if adversary.name == "none":
    return None

  def perturb(
    each: PRNGKeys, params: Any, stats: Any, images: Images, labels: SoftLabels
  ) -> tuple[Array, Array]:
    def predict(rows: Images) -> Logits:
      return apply(params, stats, rows, train=adversary.network == "training")[0]

    attack_keys, clean_keys, mix_keys = keys.split_each(each, 3)
    adversarial = attack(attack_keys, predict, images, labels, adversary=adversary)
    if adversary.name == "at" and adversary.clean_weight == 0:
      return adversarial, labels
    pairs = [(images, labels), (adversarial, labels)]
    if adversary.name == "iat":
      pairs = [
        _mixed(pair_keys, *pair, adversary=adversary)
        for pair_keys, pair in zip((clean_keys, mix_keys), pairs, strict=True)
      ]
    return _by_example([x for x, _ in pairs]), _by_example([y for _, y in pairs])

  return perturb


def attack(
  each: PRNGKeys,
  logits_fn: LogitsFn,
  images: Images,
  labels: SoftLabels,
  *,
  adversary: Adversary,
) -> Images:
  """Maximises the cross-entropy with the labels, or with what the network says about `images`.

  Paper: Madry et al. 2018, arXiv:1706.06083, eq. 2.1. With `adversary.labels="probabilities"` it is
    the attack of TRADES (Zhang et al. 2019, arXiv:1901.08573, Alg. 1): KL(p(x) || p(x')) and the
    cross-entropy of p(x') with p(x) have the same gradient in x'.
  Deviation: the start is uniform in the ball for TRADES too, which has x + 0.001 N(0, 1) there.
  """
  targets = labels
  if adversary.labels != "true":
    logits = logits_fn(images)
    targets = jax.nn.softmax(logits)
    if adversary.labels == "predicted":
      targets = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
  return attacks.pgd(
    each,
    logits_fn,
    images,
    targets.argmax(-1),
    epsilon=adversary.epsilon,
    step_size=adversary.step_size,
    num_steps=adversary.num_steps,
    random_start=adversary.random_start,
    loss=lambda logits, _: losses.cross_entropy(logits, targets),
  )


def _mixed(
  each: PRNGKeys, images: Images, labels: SoftLabels, *, adversary: Adversary
) -> tuple[Images, SoftLabels]:
  """Mixes the pictures of one kind among themselves, with draws of their own."""
  return augment.mixup(
    each,
    images,
    labels,
    alpha=adversary.mixup_alpha,
    per=adversary.mixup_per,
    partner=adversary.mixup_partner,
  )


def _by_example(parts: list[Array]) -> Array:
  """Interleaves arrays of one row per example: row = example * number of arrays + array."""
  return jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
