# SPDX-License-Identifier: Apache-2.0
"""Mixup inference: predict on mixes of the input with clean images, and average.

Paper: Pang et al. 2020, arXiv:1909.11515.

Symbols: F -> softmax of logits_fn, F_MI -> the result, lambda -> mix_weight, N -> num_draws,
y-hat -> predicted.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import (
  AnyKey,
  ExampleIds,
  Images,
  Labels,
  LogitsFn,
  PRNGKeys,
  Probabilities,
  Scalar,
)
from mixboost_jax.defenses import averaging
from mixboost_jax.defenses import pool as pools

MixWeight = float | Scalar | tuple[float, float]
"""Weight of the input in the mix: a number in [0, 1], or `(low, high)`, drawn uniformly."""
FALLBACKS = ("original", "pl")


def check_mix_weight(mix_weight: MixWeight) -> None:
  """Raises a `ValueError` unless the weight is within [0, 1]; arrays pass unchecked."""
  if isinstance(mix_weight, jax.Array):  # possibly traced
    return
  low, high = mix_weight if isinstance(mix_weight, tuple) else (mix_weight, mix_weight)
  if not 0 <= low <= high <= 1:
    raise ValueError(
      f"defenses: mix_weight must be a number in [0, 1] or (low, high), got {mix_weight}."
    )


def sample_weights(keys: PRNGKeys, mix_weight: MixWeight) -> Float[Array, " R"]:
  """Returns one weight per draw."""
  if isinstance(mix_weight, tuple):
    low, high = mix_weight
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)
  return jnp.broadcast_to(jnp.float32(mix_weight), keys.shape)


@checks.inputs()
def mix(images: Images, partners: Images, weights: Float[Array, " N"]) -> Float[Array, "N H W C"]:
  """Returns `weight * image + (1 - weight) * partner`.

  ```python
  mixed = defenses.mix(images, partners=images[::-1], weights=jnp.full(8, 0.6))
  ```
  """
  weights = weights[:, None, None, None]
  return weights * images + (1 - weights) * partners


@checks.inputs()
def mixup_draws(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  pool: pools.Pool,
  *,
  mode: str,
  mix_weight: MixWeight,
  num_draws: int,
  predicted: Labels | None = None,
  ids: ExampleIds | None = None,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Float[Array, "D N K"]:
  """Returns the softmax output on each mix; see `mixup_inference` for the arguments.

  Paper: Alg. 1 before the average.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  options = {"mode": "ol", "mix_weight": 0.6, "num_draws": 5}
  draws = defenses.mixup_draws(key, logits_fn, images, pool, **options)
  ```
  """
  pools.check_mode(mode)
  check_mix_weight(mix_weight)
  if predicted is None:
    predicted = jnp.argmax(logits_fn(images), axis=-1)
  own = None if ids is None else pools.own_rows(pool, ids)

  def view(keys: Array, example: Array) -> Array:
    key_partner, key_weight = keys_lib.split_each(keys, 2)
    rows = pools.partner_rows(
      key_partner,
      pool,
      predicted[example],
      mode=mode,
      own=None if own is None else (own[0][example], own[1][example]),
    )
    weights = sample_weights(key_weight, mix_weight)
    return mix(images[example], pools.take(pool, rows), weights)

  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  outputs = averaging.draw_probabilities(key, logits_fn, view, num_examples=len(images), **options)
  if mode != "any" and outputs.shape[-1] != pool.num_classes:
    raise ValueError(
      f"defenses.mixup_inference: the pool has {pool.num_classes} classes, the model "
      f"{outputs.shape[-1]}; use a pool of the same classes, or mode='any'."
    )
  return outputs


@checks.inputs()
def mixup_inference(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  pool: pools.Pool,
  *,
  mode: str,
  mix_weight: MixWeight = 0.5,
  num_draws: int = 30,
  num_draws_pl: int | None = None,
  mix_weight_pl: MixWeight = 0.5,
  threshold: float = 0.2,
  fallback: str = "original",
  predicted: Labels | None = None,
  ids: ExampleIds | None = None,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Predicts by averaging over mixes of each image with clean ones.

  Paper: Pang et al. 2020, arXiv:1909.11515, Alg. 1; "pl" and "ol" are MI-PL and MI-OL of Sec. 3.2,
  "combined" is MI-Combined of Sec. 4.3.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  probabilities = defenses.mixup_inference(key, logits_fn, images, pool, mode="ol", mix_weight=0.6)
  ```

  Args:
    key: one key, or one per example. The same key draws the same partners: a frozen pool.
    logits_fn: the deterministic model.
    images: in [0, 1].
    pool: the pool; see `build_pool`.
    mode: "pl" (partners of the predicted label), "ol" (of the other labels), "combined" ("ol" where
      "pl" finds the input suspicious), or "any" (of a uniformly drawn label, for a pool of
      another data set).
    mix_weight: weight of the image: a number in [0, 1], or `(low, high)` to draw it uniformly.
      For "combined" it belongs to the "ol" part.
    num_draws: mixes per image (for "combined": of the "ol" part).
    num_draws_pl: mixes of the "pl" part of "combined"; `num_draws` if None.
    mix_weight_pl: weight of the "pl" part of "combined".
    threshold: "combined" finds an input suspicious if its largest probability falls by this much or
      more under "pl".
    fallback: what "combined" returns otherwise: the "original" prediction (paper) or the average of
      "pl" (published code).
    predicted: labels that "pl" and "ol" refer to; by default those the model gives to `images`.
    ids: identities of the images if they may be in the pool.
    max_rows: mixes per call of the model; see `loops.map_rows`.
    has_gradient: whether the caller differentiates the result (an adaptive attack).
  """
  if fallback not in FALLBACKS:
    raise ValueError(f"defenses: fallback must be one of {', '.join(FALLBACKS)}, got {fallback!r}.")
  clean = jax.nn.softmax(logits_fn(images))
  predicted = jnp.argmax(clean, axis=-1) if predicted is None else predicted

  options: dict[str, Any] = {"predicted": predicted, "ids": ids}
  options |= {"max_rows": max_rows, "has_gradient": has_gradient}

  def average(key: AnyKey, mode: str, weight: MixWeight, num: int) -> Probabilities:
    own = {"mode": mode, "mix_weight": weight, "num_draws": num, **options}
    return mixup_draws(key, logits_fn, images, pool, **own).mean(axis=0)

  if mode != "combined":
    return average(key, mode, mix_weight, num_draws)
  key_pl, key_ol = keys_lib.split_each(keys_lib.per_example(key, images.shape[0]), 2)
  same = average(key_pl, "pl", mix_weight_pl, num_draws if num_draws_pl is None else num_draws_pl)
  other = average(key_ol, "ol", mix_weight, num_draws)
  suspicious = jnp.max(clean, axis=-1) - jnp.max(same, axis=-1) >= threshold
  return jnp.where(suspicious[:, None], other, clean if fallback == "original" else same)
