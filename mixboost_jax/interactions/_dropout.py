# SPDX-License-Identifier: Apache-2.0
"""Why dropout lowers interactions: a pattern of q units survives with a power of the keep rate.

Symbols (Zhang et al. 2021, arXiv:2009.11729, Sec. 3): I^(s)(i, j) -> `multi_order`, J^(q)(i, j) ->
`pattern_means`, r ~ Binomial(s, p) -> number of context units that survive.
"""

import math

import numpy as np
from jaxtyping import Float

from mixboost_jax.interactions._exact import members


def pattern_means(dividends: Float[np.ndarray, " coalitions"]) -> Float[np.ndarray, "q n n"]:
  """Returns J^(q)(i, j): the mean of I(T + ij) over patterns T of q other players.

  I^(m)(i, j) = sum_q C(m, q) J^(q)(i, j); `dividends` are those of `exact.harsanyi(game)`.
  """
  presence = members(dividends.size.bit_length() - 1)
  n, sizes = presence.shape[1], presence.sum(1)
  result = np.zeros((n - 1, n, n))
  for q in range(n - 1):
    rows = presence[sizes == q + 2].astype(np.float64)
    result[q] = rows.T @ (rows * dividends[sizes == q + 2][:, None]) / math.comb(n - 2, q)
  result[:, np.arange(n), np.arange(n)] = 0
  return result


def under_dropout(
  multi_order: Float[np.ndarray, "m n n"], *, keep_rate: float
) -> Float[np.ndarray, "m n n"]:
  """Returns I_dropout^(s)(i, j): order s when each context unit survives with `keep_rate`.

  It is the mean of I^(r) over r ~ Binomial(s, keep_rate), i.e. sum_q C(s, q) keep_rate^q J^(q): no
  larger than |I^(s)| if all J^(q) of a pair share a sign.

  Paper: Zhang et al. 2021, arXiv:2009.11729, Sec. 3.2.
  """
  if not 0 <= keep_rate <= 1:
    raise ValueError(f"under_dropout: keep_rate must be in [0, 1], got {keep_rate}.")
  orders = range(len(multi_order))
  weights = [
    [math.comb(s, r) * keep_rate**r * (1 - keep_rate) ** max(s - r, 0) for r in orders]
    for s in orders
  ]
  return np.einsum("sr,rij->sij", np.array(weights), multi_order)
