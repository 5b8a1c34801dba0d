# SPDX-License-Identifier: Apache-2.0
"""What an attack maximises: one value per example, larger is worse for the defender.

Symbols: z -> logits, y -> label, t -> target, z_(i) -> i-th largest logit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixboost_jax import checks, registry
from mixboost_jax.array_types import Labels, Logits, PerExample

_TINY = 1e-12


def pick(logits: Logits, labels: Labels) -> PerExample:
  """Returns the logit of each label."""
  checks.class_numbers("attacks", "labels", labels, logits.shape[-1])
  return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def largest_other(logits: Logits, labels: Labels) -> PerExample:
  """Returns the largest logit among the classes other than the label."""
  own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  return jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1)


def cross_entropy(logits: Logits, labels: Labels) -> PerExample:
  """Returns `-log softmax(z)_y`."""
  return -pick(jax.nn.log_softmax(logits), labels)


def margin(logits: Logits, labels: Labels) -> PerExample:
  """Returns `max_{j != y} z_j - z_y`, positive where the prediction is wrong.

  Paper: Carlini & Wagner 2017, arXiv:1608.04644, f_6.
  """
  return largest_other(logits, labels) - pick(logits, labels)


def difference_of_logits_ratio(logits: Logits, labels: Labels) -> PerExample:
  """Returns `-(z_y - max_{j != y} z_j) / (z_(1) - z_(3))`, blind to shift and scale of z.

  Paper: Croce & Hein 2020, arXiv:2003.01690, eq. 6.

  Deviation: with two classes there is no z_(3) and the ratio with z_(2) would be constant, so the
  margin alone is returned.
  """
  if logits.shape[-1] < 3:
    return margin(logits, labels)
  ordered = jnp.sort(logits, axis=-1)
  return margin(logits, labels) / (ordered[:, -1] - ordered[:, -3] + _TINY)


def targeted_difference_of_logits_ratio(
  logits: Logits, labels: Labels, targets: Labels
) -> PerExample:
  """Returns `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)`.

  Paper: Croce & Hein 2020, arXiv:2003.01690, eq. 7.

  Deviation: with three classes the denominator is `z_(1) - z_(3)`, with two it is 1.
  """
  gap = pick(logits, targets) - pick(logits, labels)
  num_classes = logits.shape[-1]
  if num_classes < 3:
    return gap
  ordered = jnp.sort(logits, axis=-1)
  low = ordered[:, -3] if num_classes == 3 else 0.5 * (ordered[:, -3] + ordered[:, -4])
  return gap / (ordered[:, -1] - low + _TINY)


OBJECTIVES: dict[str, Callable] = {
  "ce": cross_entropy,
  "margin": margin,
  "dlr": difference_of_logits_ratio,
}


def objective(loss: str | Callable, labels: Labels, *, targeted: bool) -> Callable:
  """Returns `logits -> value[N]`, to be maximised.

  Args:
    loss: "ce", "margin", "dlr", or `(logits, labels) -> value[N]`.
    labels: true labels, or the wanted ones if `targeted`.
    targeted: whether to approach `labels` (the loss is negated) rather than to leave them.

  Raises:
    ValueError: if the name is unknown.
  """
  function = (
    registry.lookup(OBJECTIVES, loss, field="attacks: loss") if isinstance(loss, str) else loss
  )
  sign = -1.0 if targeted else 1.0
  return lambda logits: sign * function(logits, labels)


@checks.inputs(values="always")
def fooled(logits: Logits, labels: Labels, *, targeted: bool = False) -> jax.Array:
  """Returns whether the attack reached its aim: another label, or the target."""
  hit = jnp.argmax(logits, axis=-1) == labels
  return hit if targeted else ~hit
