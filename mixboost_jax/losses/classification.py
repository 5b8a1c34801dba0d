# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy with integer or soft labels, and the entropy of a prediction."""

import jax
import jax.numpy as jnp

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, SoftLabels


@checks.inputs()
def one_hot(labels: Labels, num_classes: int) -> SoftLabels:
  """Returns `float32[N, K]` rows with a single 1; all 0 for a traced label that is no class."""
  checks.class_numbers("one_hot", "labels", labels, num_classes)
  return jax.nn.one_hot(labels, num_classes)


@checks.inputs()
def smooth(soft_labels: SoftLabels, *, label_smoothing: float) -> SoftLabels:
  """Mixes each row with the uniform distribution.

  Paper: Szegedy et al. 2016, arXiv:1512.00567, Sec. 7.
  """
  if not 0 <= label_smoothing < 1:
    raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
  return (1 - label_smoothing) * soft_labels + label_smoothing / soft_labels.shape[-1]


@checks.inputs()
def cross_entropy(
  logits: Logits, labels: Labels | SoftLabels, *, label_smoothing: float = 0.0
) -> PerExample:
  """Returns `-sum_k y_k log softmax(logits)_k` for each example, in nats.

  A class of probability 0 adds nothing, whatever its logit (-inf included). The value is NaN where
  a label is no class, so that a wrong label under `jit` is not taken for a perfect prediction.

  Args:
    logits: `[N, K]`.
    labels: class numbers `int[N]` in [0, K), or probabilities `float[N, K]`.
    label_smoothing: weight of the uniform distribution, in [0, 1).
  """
  known = None
  if labels.ndim == 1:
    known = (labels >= 0) & (labels < logits.shape[-1])
    labels = one_hot(labels, logits.shape[-1])
  if label_smoothing:
    labels = smooth(labels, label_smoothing=label_smoothing)
  log_probabilities = jnp.where(labels == 0, 0, jax.nn.log_softmax(logits))
  loss = -jnp.sum(labels * log_probabilities, axis=-1)
  return loss if known is None else jnp.where(known, loss, jnp.nan)


@checks.inputs()
def entropy(logits: Logits) -> PerExample:
  """Returns the Shannon entropy of `softmax(logits)` in nats, in [0, log K]."""
  log_probabilities = jax.nn.log_softmax(logits)
  finite = jnp.where(log_probabilities == -jnp.inf, 0, log_probabilities)  # p log p is 0 at p = 0
  return -jnp.sum(jnp.exp(log_probabilities) * finite, axis=-1)
