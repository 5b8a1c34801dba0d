# SPDX-License-Identifier: Apache-2.0
"""Scores of detectors on functions whose attributions and ranks are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mixboost_jax import defenses


def logits_of(score):
  """Two classes with p(first) = sigmoid(score)."""
  return jnp.stack([score, jnp.zeros_like(score)], axis=1)


def test_dispersion_by_hand():
  """f = sigmoid(sum of w x) over four cells; a missing cell reads 0."""
  weights = np.array([[0.1, 0.4], [0.9, 2.0]])
  images = jnp.ones((1, 2, 2, 1))
  whole = lambda x: (x[..., 0] * jnp.asarray(weights, jnp.float32)[None]).sum((1, 2))  # noqa: E731
  found = defenses.dispersions(
    lambda x: logits_of(whole(x)), images, grid=2, fill=0.0,
    layers_fn=lambda x: [jnp.stack([x[..., 0], 3 * x[..., 0]], -1), x[:, :1, :1]],
  )  # fmt: skip

  def sigmoid(t):
    return 1 / (1 + np.exp(-t))

  total = weights.sum()
  output = np.array([sigmoid(total) - sigmoid(total - w) for w in weights.ravel()])
  spread = np.subtract(*np.quantile(output, [0.75, 0.25]))
  # Each cell is a quarter of a channel's mean: all attributions are equal, their range is 0.
  np.testing.assert_allclose(found[0, 0], np.log(spread + 1e-6), rtol=1e-4)
  np.testing.assert_allclose(found[0, 1], np.log(1e-6), atol=0.2)
  # The second layer sees the first cell alone: attributions 1, 0, 0, 0, quartiles 0.25 and 0.
  np.testing.assert_allclose(np.exp(found[0, 2]), 0.25, rtol=1e-3)


def test_truncation_is_the_best_approximation_and_has_a_gradient(images):
  few = images[:2]
  for rank in (1, 5):
    found = np.asarray(defenses.truncate(few, rank=rank))
    for n in range(2):
      left, values, right = np.linalg.svd(np.moveaxis(np.asarray(few[n]), -1, 0))
      best = (left[..., :rank] * values[:, None, :rank]) @ right[:, :rank]
      np.testing.assert_allclose(found[n], np.moveaxis(best, 0, -1), atol=1e-4)
  flat = jnp.full((1, 8, 8, 1), 0.5)  # many singular values meet at 0
  slope = jax.grad(lambda x: defenses.truncate(x, rank=2).sum())(flat)
  assert np.isfinite(slope).all()
  with pytest.raises(ValueError, match=r"rank must be in \[1, 32\], got 40"):
    defenses.truncate(few, rank=40)


def test_rank_score_is_large_where_small_singular_values_decide():
  rng = np.random.default_rng(0)
  smooth = np.outer(np.linspace(0.2, 1, 8), np.linspace(0.3, 1, 8))
  left, _, right = np.linalg.svd(rng.normal(size=(8, 8)))
  hidden = np.outer(left[:, 7], right[7])  # one direction
  probe = jnp.asarray(hidden, jnp.float32)

  def logits_fn(x):
    return logits_of(40 * (x[..., 0] * probe[None]).sum((1, 2)) - 2)

  images = jnp.asarray(np.stack([smooth, smooth + 0.15 * hidden])[..., None], jnp.float32)
  clean, moved = defenses.rank_score(logits_fn, images, ranks=(1,))
  outputs = jax.nn.softmax(logits_fn(images))
  predicted = outputs.argmax(1)
  low = jax.nn.softmax(logits_fn(defenses.truncate(images, rank=1)))
  expected = [outputs[n, predicted[n]] - low[n, predicted[n]] for n in range(2)]
  np.testing.assert_allclose([clean, moved], expected, atol=1e-5)
  assert moved > 0.3 > abs(clean)
  with pytest.raises(ValueError, match="no rank of"):
    defenses.rank_score(logits_fn, images, ranks=(8, 16))


def test_the_fitted_detector_is_logistic_regression():
  rng = np.random.default_rng(0)
  truth = np.repeat([False, True], 40)
  features = rng.normal(size=(80, 3)) * [1, 10, 0.1] + truth[:, None] * [1.0, 5.0, 0.0]
  weights, offset = defenses.fit_detector(features, truth, penalty=0.05)
  scaled = (features - features.mean(0)) / features.std(0)
  other = LogisticRegression(C=1 / (0.05 * 80), tol=1e-8).fit(scaled, truth)
  np.testing.assert_allclose(
    features @ weights + offset, other.decision_function(scaled), atol=1e-3
  )
