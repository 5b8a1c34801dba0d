# SPDX-License-Identifier: Apache-2.0
"""Agreement between predictions on several views of one example."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mixboost_jax import checks
from mixboost_jax.array_types import Logits, PerExample


@checks.inputs()
def jensen_shannon(list_of_logits: Sequence[Logits]) -> PerExample:
  """Returns the Jensen-Shannon divergence of the views' predictions, in [0, log(num_views)].

  Paper: Hendrycks et al. 2020 (AugMix), arXiv:1912.02781, Sec. 3, "Jensen-Shannon divergence
  consistency loss": the mean of KL(p_i || M), M the mean prediction clipped to [1e-7, 1].

  Args:
    list_of_logits: one `[N, K]` per view, at least two.
  """
  if len(list_of_logits) < 2:
    raise ValueError(f"jensen_shannon: expected at least 2 views, got {len(list_of_logits)}.")
  log_p = jnp.stack([jax.nn.log_softmax(logits) for logits in list_of_logits])
  p = jnp.exp(log_p)
  log_mixture = jnp.log(jnp.clip(p.mean(axis=0, keepdims=True), 1e-7, 1.0))
  return jnp.sum(p * jnp.where(log_p == -jnp.inf, 0, log_p - log_mixture), axis=-1).mean(axis=0)


@checks.inputs()
def kl_divergence(logits: Logits, other: Logits) -> PerExample:
  """Returns KL(p || q) of `p = softmax(logits)` from `q = softmax(other)`, in nats."""
  log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other)
  return jnp.sum(jnp.exp(log_p) * jnp.where(log_p == -jnp.inf, 0, log_p - log_q), axis=-1)
