# SPDX-License-Identifier: Apache-2.0
"""What mixup inference changes: measured on a model, and as the paper's linear theory has it.

Symbols (Pang et al. 2020, arXiv:1909.11515): L -> num_classes, lambda -> mix_weight, DF_k -> change
of the probability of class k, G -> gain, the non-linear part of F on an adversarial input.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from mixboost_jax import checks
from mixboost_jax.array_types import (
  AnyKey,
  Images,
  Labels,
  LogitsFn,
  PerExample,
  Probabilities,
)
from mixboost_jax.defenses import mixup
from mixboost_jax.defenses import pool as pools


class Change(NamedTuple):
  """How the defense moves two probabilities of each example: F_MI - F."""

  true_class: PerExample
  """DF_y."""
  predicted_class: PerExample
  """DF_yhat."""


class Sweep(NamedTuple):
  """Means over examples of DF_y and DF_yhat for each mix weight, with standard errors: `[W]`."""

  mix_weights: np.ndarray
  true_class: np.ndarray
  true_class_stderr: np.ndarray
  predicted_class: np.ndarray
  predicted_class_stderr: np.ndarray
  improving: np.ndarray
  """Share of examples that meet the robustness improving condition."""


@checks.inputs()
def change(plain: Probabilities, defended: Probabilities, labels: Labels) -> Change:
  """Returns DF_y and DF_yhat (eq. 9).

  ```python
  defended = defenses.gaussian_noise(key, logits_fn, images, noise_std=0.1, num_draws=5)
  moved = defenses.change(jax.nn.softmax(logits), defended, labels)
  ```
  """
  difference = defended - plain
  predicted = jnp.argmax(plain, axis=-1)
  return Change(
    *(jnp.take_along_axis(difference, k[:, None], -1)[:, 0] for k in (labels, predicted))
  )


@checks.inputs()
def improves_robustness(moved: Change) -> Bool[Array, " N"]:
  """Returns where the robustness improving condition holds: DF_y > 0 and DF_yhat < 0 (eq. 10).

  ```python
  defended = defenses.gaussian_noise(key, logits_fn, images, noise_std=0.1, num_draws=5)
  moved = defenses.change(jax.nn.softmax(logits), defended, labels)
  share = defenses.improves_robustness(moved).mean()
  ```
  """
  return (moved.true_class > 0) & (moved.predicted_class < 0)


@checks.inputs()
def ideal_prediction(
  *,
  mode: str,
  mix_weight: float,
  num_classes: int,
  adversarial: bool,
  gain_true: float = 0.0,
  gain_predicted: float = 0.0,
) -> tuple[float, float]:
  """Returns `(F_MI,y, F_MI,yhat)` of a model that is linear between clean images.

  Paper: Table 1, with the expectation over y_s taken: 1[y = y_s] has mean 1/(L-1) for MI-OL. The
  gains are G_y and G_yhat(lambda delta; x~0), `adversarial` is z.

  ```python
  options = {"mode": "ol", "mix_weight": 0.5, "num_classes": 11}
  assert defenses.ideal_prediction(**options, adversarial=False) == (0.5, 0.5)
  assert defenses.ideal_prediction(**options, adversarial=True) == (0.55, 0.0)  # y wins
  ```
  """
  if mode not in ("pl", "ol"):
    raise ValueError(f"defenses.ideal_prediction: mode must be 'pl' or 'ol', got {mode!r}.")
  rest = 1 - mix_weight
  if not adversarial:  # y = yhat
    value = 1.0 if mode == "pl" else mix_weight
    return value, value
  if mode == "pl":
    return mix_weight + gain_true, rest + gain_predicted
  return mix_weight + rest / (num_classes - 1) + gain_true, gain_predicted


@checks.inputs()
def improvement_bounds(*, mode: str, mix_weight: float, num_classes: int) -> tuple[float, float]:
  """Returns `(upper, lower)`: the condition holds if G_y's shrinkage < upper, G_yhat's > lower.

  Paper: eqs. 12 and 15; shrinkage is `E[G_k(delta) - G_k(lambda delta)]`.

  ```python
  assert defenses.improvement_bounds(mode="pl", mix_weight=0.5, num_classes=10) == (-0.5, 0.5)
  ```
  """
  if mode == "pl":
    return mix_weight - 1, 1 - mix_weight
  if mode == "ol":
    return (mix_weight - 1) * (num_classes - 2) / (num_classes - 1), 0.0
  raise ValueError(f"defenses.improvement_bounds: mode must be 'pl' or 'ol', got {mode!r}.")


@checks.inputs()
def keeps_clean_decision(*, mix_weight: float, num_classes: int) -> bool:
  """Returns whether MI-OL keeps the decision of an ideal model on clean input: lambda > 1/L.

  Paper: eq. 17.

  ```python
  assert defenses.keeps_clean_decision(mix_weight=0.3, num_classes=4)
  assert not defenses.keeps_clean_decision(mix_weight=0.2, num_classes=4)
  ```
  """
  return mix_weight > 1 / num_classes


@checks.inputs()
def sweep(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  labels: Labels,
  pool: pools.Pool,
  *,
  mode: str,
  mix_weights: Sequence[float],
  num_draws: int = 30,
  max_rows: int | None = None,
) -> Sweep:
  """Measures DF_y and DF_yhat against the mix weight.

  Paper: Fig. 2 (100 test images, clean and under untargeted PGD-10). All weights share the draws.
  Arguments as of `mixup_inference`, with the true labels.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  found = defenses.sweep(key, logits_fn, images, labels, pool, mode="ol", mix_weights=(0.5, 0.9))
  ```
  """
  plain = jax.nn.softmax(logits_fn(images))
  predicted = jnp.argmax(plain, axis=-1)

  options = {"mode": mode, "num_draws": num_draws, "predicted": predicted, "max_rows": max_rows}

  @jax.jit
  def measure(weight: Array) -> tuple[Change, Array]:
    draws = mixup.mixup_draws(key, logits_fn, images, pool, mix_weight=weight, **options)
    moved = change(plain, draws.mean(axis=0), labels)
    return moved, improves_robustness(moved)

  rows = []
  for weight in mix_weights:
    mixup.check_mix_weight(weight)
    moved, better = measure(jnp.float32(weight))
    row = [weight]
    for values in moved:
      values = np.asarray(values)
      row += [values.mean(), values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan]
    rows.append([*row, np.asarray(better).mean()])
  return Sweep(*np.asarray(rows, np.float64).T)
