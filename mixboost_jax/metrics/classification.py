# SPDX-License-Identifier: Apache-2.0
"""How often a classifier is wrong, and how wrong its probabilities are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, Probabilities, Scalar


@checks.inputs()
def correct(scores: Probabilities, labels: Labels) -> Bool[Array, " N"]:
  """Returns whether the largest score is that of the label (first of equal scores wins).

  Args:
    scores: logits or probabilities.
    labels: class numbers in [0, K).
  """
  return jnp.argmax(scores, axis=-1) == labels


@checks.inputs()
def confidence(probabilities: Probabilities) -> PerExample:
  """Returns the largest probability of each row, in [1/K, 1]."""
  return probabilities.max(axis=-1)


@checks.inputs()
def accuracy(scores: Probabilities, labels: Labels) -> Scalar:
  """Returns the fraction of correct predictions, in [0, 1]."""
  return correct(scores, labels).astype(jnp.float32).mean()


@checks.inputs()
def clean_error(scores: Probabilities, labels: Labels) -> Scalar:
  """Returns 100 (1 - accuracy), in %."""
  wrong = ~correct(scores, labels)
  return 100.0 * wrong.astype(jnp.float32).mean()


@checks.inputs()
def nll_per_example(logits: Logits, labels: Labels) -> PerExample:
  """Returns -log softmax(logits)[label] of each example, in nats."""
  log_probabilities = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


@checks.inputs()
def nll(logits: Logits, labels: Labels) -> Scalar:
  """Returns the mean negative log-likelihood, in nats."""
  return nll_per_example(logits, labels).mean()


@checks.inputs()
def brier_per_example(probabilities: Probabilities, labels: Labels) -> PerExample:
  """Returns sum_k (p_k - [k = label])^2 of each example, in [0, 2]."""
  truth = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=probabilities.dtype)
  return jnp.square(probabilities - truth).sum(axis=-1)


@checks.inputs()
def brier(probabilities: Probabilities, labels: Labels) -> Scalar:
  """Returns the Brier score, the mean over examples of sum_k (p_k - [k = label])^2.

  Paper: Brier 1950 (the multi-class form, in [0, 2]; for K = 2 it is twice the binary one).
  """
  return brier_per_example(probabilities, labels).mean()
