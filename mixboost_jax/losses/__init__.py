# SPDX-License-Identifier: Apache-2.0
"""Losses on logits, one value per example; the caller takes the mean."""

from mixboost_jax.losses.boost import boost_entropy, mixboost
from mixboost_jax.losses.classification import cross_entropy, entropy, one_hot, smooth
from mixboost_jax.losses.consistency import jensen_shannon, kl_divergence
from mixboost_jax.losses.interaction import INTERACTION_PRESETS, aligned_difference, interaction

__all__ = [
  "INTERACTION_PRESETS",
  "aligned_difference",
  "boost_entropy",
  "cross_entropy",
  "entropy",
  "interaction",
  "jensen_shannon",
  "kl_divergence",
  "mixboost",
  "one_hot",
  "smooth",
]
