# SPDX-License-Identifier: Apache-2.0
"""The proxy M under each index rule, by hand, and its search."""

import json

import jax
import numpy as np
import pytest

from mixboost_jax import interactions

PROXY_ORDERS = interactions.orders_of(256)  # 0 12 25 50 76 101 127 152 177 203 228 241 254
J = np.array([3.2, 1.9, 1.3, 0.9, 0.7, 0.6, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.8])
J = J / J.mean()


def expected(low, middle):
  return np.sqrt(J[middle].sum() / J[low].sum() / (J.max() - J.min()))


@pytest.mark.parametrize(
  ("index", "low", "middle"),
  [
    # floor(.2 * 256) = 51 > 50: order 50 is low only; floor(.8 * 256) = 204 >= 203.
    ("order", [0, 1, 2, 3], [4, 5, 6, 7, 8, 9]),
    ("ratio", [0, 1, 2, 3], [3, 4, 5, 6, 7, 8, 9]),
  ],
)
def test_by_hand(index, low, middle):
  found = interactions.proxy(J, PROXY_ORDERS, num_players=256, index=index)
  np.testing.assert_allclose(found, expected(low, middle))


def test_interpolation_sums_every_order():
  line = np.interp(np.arange(255), PROXY_ORDERS, J)
  value = np.sqrt(line[51:205].sum() / line[:52].sum() / (J.max() - J.min()))
  found = interactions.proxy(J, PROXY_ORDERS, num_players=256, index="interpolate")
  np.testing.assert_allclose(found, value)


def test_scale_does_not_matter_and_models_are_batched():
  found = interactions.proxy(np.stack([J, 7 * J]), PROXY_ORDERS, num_players=256)
  np.testing.assert_allclose(found[0], found[1])
  np.testing.assert_allclose(found[0], interactions.proxy(J, PROXY_ORDERS, num_players=256))
  assert interactions.proxy(np.ones(13), PROXY_ORDERS, num_players=256) == np.inf


def test_errors_say_what_to_do():
  with pytest.raises(ValueError, match="a <= b <= c"):
    interactions.proxy(J, PROXY_ORDERS, num_players=256, a=0.5, b=0.2)
  with pytest.raises(ValueError, match="no sampled order is middle"):
    interactions.proxy(J, PROXY_ORDERS, num_players=256, b=0.25, c=0.26)
  with pytest.raises(ValueError, match="13 strengths for 2"):
    interactions.proxy(J, (1, 2), num_players=256)
  with pytest.raises(ValueError, match="at least 3 models"):
    interactions.search(
      jax.random.key(0), J[None], {"mce": [1.0]}, orders=PROXY_ORDERS, num_players=256
    )


def test_search_finds_the_planted_bounds(key):
  draw = np.random.default_rng(0)
  strengths = J * np.exp(0.3 * draw.normal(size=(12, 13)))
  planted = interactions.proxy(strengths, PROXY_ORDERS, num_players=256, a=0.1, b=0.4, c=0.7)
  metrics = {"mce": -planted, "rms": 5 - 2 * planted}
  common = {"orders": PROXY_ORDERS, "num_players": 256, "num_permutations": 99}
  found = interactions.search(key, strengths, metrics, **common)
  np.testing.assert_allclose(found.correlation, -1, atol=1e-9)
  best = interactions.proxy(
    strengths, PROXY_ORDERS, num_players=256, a=found.a, b=found.b, c=found.c
  )
  np.testing.assert_allclose(best, planted)
  assert found.p_value == 0.01
  np.testing.assert_allclose(found.per_metric["rms"], -1, atol=1e-9)
  assert json.loads(json.dumps(found.to_json()))["scores"]
  # Pure noise: the search finds a correlation, the corrected p-value is not impressed.
  noise = interactions.search(key, strengths, {"mce": draw.normal(size=12)}, **common)
  assert abs(noise.correlation) > 0.2
  assert noise.p_value > 0.05
