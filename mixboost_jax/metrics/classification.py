# SPDX-License-Identifier: Apache-2.0
"""How often a classifier is wrong, and how wrong its probabilities are.

A NaN among the scores, or a label that is no class, makes every number here NaN (known labels and
probabilities raise, see `checks`): nothing that looks plausible comes out.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, Probabilities, Scalar


@checks.inputs(values="known")
def correct(scores: Probabilities, labels: Labels) -> Bool[Array, " N"]:
  """Returns whether the largest score is that of the label (first of equal scores wins).

  False where a score is NaN or the label is no class.

  ```python
  mistakes = images[~metrics.correct(logits, labels)]
  ```
  """
  return (jnp.argmax(scores, axis=-1) == labels) & usable(scores, labels)


def usable(scores: Probabilities, labels: Labels) -> Bool[Array, " N"]:
  """Returns whether no score of an example is NaN and its label is a class."""
  return ~jnp.isnan(scores).any(axis=-1) & (labels >= 0) & (labels < scores.shape[-1])


def hits(scores: Probabilities, labels: Labels) -> PerExample:
  """Returns 1 where the prediction is right, 0 where it is wrong, NaN where nobody can say."""
  right = (jnp.argmax(scores, axis=-1) == labels).astype(scores.dtype)
  return jnp.where(usable(scores, labels), right, jnp.nan)


def namespace(*arrays: Any) -> Any:
  """Returns NumPy for arrays that are all of NumPy (float64 on the host), or else `jax.numpy`."""
  return np if all(isinstance(array, np.ndarray) for array in arrays) else jnp


@checks.inputs(values="known")
def confidence(probabilities: Probabilities) -> PerExample:
  """Returns the largest probability of each row, in [1/K, 1].

  ```python
  doubtful = images[metrics.confidence(jax.nn.softmax(logits)) < 0.5]
  ```
  """
  return probabilities.max(axis=-1)


@checks.inputs(values="known")
def accuracy(scores: Probabilities, labels: Labels) -> Scalar:
  """Returns the fraction of correct predictions, in [0, 1].

  ```python
  error = 1 - metrics.accuracy(logits, labels)
  ```
  """
  return hits(scores, labels).astype(jnp.float32).mean()


@checks.inputs(values="known")
def clean_error(scores: Probabilities, labels: Labels) -> Scalar:
  """Returns 100 (1 - accuracy), in %.

  ```python
  error = metrics.clean_error(logits, labels)  # 12.5 if one of eight is wrong
  ```
  """
  return 100.0 * (1 - hits(scores, labels).astype(jnp.float32)).mean()


@checks.inputs(values="known")
def nll_per_example(logits: Logits, labels: Labels) -> PerExample:
  """Returns -log softmax(logits)[label] of each example, in nats.

  ```python
  hardest = images[metrics.nll_per_example(logits, labels).argmax()]
  ```
  """
  log_probabilities = jax.nn.log_softmax(logits, axis=-1)
  own = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
  return jnp.where(usable(logits, labels), -own, jnp.nan)


@checks.inputs(values="known")
def nll(logits: Logits, labels: Labels) -> Scalar:
  """Returns the mean negative log-likelihood, in nats.

  ```python
  chance = metrics.nll(jnp.zeros((8, 4)), labels)
  assert jnp.isclose(chance, jnp.log(4))  # four classes, all equally likely
  ```
  """
  return nll_per_example(logits, labels).mean()


@checks.inputs(values="known")
def brier_per_example(probabilities: Probabilities, labels: Labels) -> PerExample:
  """Returns sum_k (p_k - [k = label])^2 of each example, in [0, 2].

  ```python
  hardest = images[metrics.brier_per_example(jax.nn.softmax(logits), labels).argmax()]
  ```
  """
  truth = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=probabilities.dtype)
  squares = jnp.square(probabilities - truth).sum(axis=-1)
  return jnp.where(usable(probabilities, labels), squares, jnp.nan)


@checks.inputs(values="known")
def brier(probabilities: Probabilities, labels: Labels) -> Scalar:
  """Returns the Brier score, the mean over examples of sum_k (p_k - [k = label])^2.

  ```python
  chance = metrics.brier(jnp.full((8, 4), 1 / 4), labels)
  assert chance == 0.75  # 1 - 1/K for equal probabilities
  ```

  Paper: Brier 1950 (the multi-class form, in [0, 2]; for K = 2 it is twice the binary one).
  """
  return brier_per_example(probabilities, labels).mean()
