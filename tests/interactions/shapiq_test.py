# SPDX-License-Identifier: Apache-2.0
"""Agreement with an independent package, where it is installed."""

import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact

shapiq = pytest.importorskip("shapiq")

N = 7


def test_shapley_values_and_interactions_agree():
  table = np.random.default_rng(0).normal(size=2**N).astype(np.float32)
  table[0] = 0  # the package subtracts v(empty)
  game = interactions.table_game(jnp.asarray(table))
  codes = 1 << np.arange(N)
  oracle = shapiq.ExactComputer(
    game=lambda c: table[np.asarray(c).astype(int) @ codes].astype(np.float64), n_players=N
  )
  values = oracle("SV", order=1).dict_values
  index = oracle("SII", order=2).dict_values
  np.testing.assert_allclose(_exact.shapley(game), [values[i,] for i in range(N)], atol=1e-6)
  pairs = _exact.shapley_interaction(game)
  for i in range(N):
    for j in range(i):
      np.testing.assert_allclose(pairs[i, j], index[j, i], atol=1e-6)
  dividends = oracle("Moebius", order=N).dict_values
  for coalition, value in dividends.items():
    code = sum(1 << p for p in coalition)
    np.testing.assert_allclose(_exact.harsanyi(game)[code], value, atol=1e-5)
