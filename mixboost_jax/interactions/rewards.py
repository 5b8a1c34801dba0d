# SPDX-License-Identifier: Apache-2.0
"""From logits to the reward v(S) of a coalition.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 2): p -> probability of the label y, z -> logits.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import Logits


def log_odds(logits: Logits, label: Int[Array, ""]) -> Float[Array, " N"]:
  """Returns log p / (1 - p) = z_y - logsumexp of the other logits, without cancellation.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 2 ("modified" in the public code, its default).
  """
  is_label = jnp.arange(logits.shape[-1]) == label
  others = jnp.where(is_label[None], -jnp.inf, logits)
  return logits[:, label] - jax.nn.logsumexp(others, axis=-1)


def log_probability(logits: Logits, label: Int[Array, ""]) -> Float[Array, " N"]:
  """Returns log p ("normal" in the public code)."""
  return jax.nn.log_softmax(logits)[:, label]


def logit(logits: Logits, label: Int[Array, ""]) -> Float[Array, " N"]:
  """Returns z_y."""
  return logits[:, label]


REWARDS = {"modified": log_odds, "normal": log_probability, "logit": logit}
"""Name -> reward; the first two are named as in the public code."""
