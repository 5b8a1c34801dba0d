# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, keys
from mixboost_jax.attacks import _apgd, _stage


def test_reviews_of_a_hundred_steps():
  schedule = _apgd.checkpoints(100)
  steps = np.flatnonzero(np.asarray(schedule.is_check)) + 1
  assert steps.tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
  assert np.asarray(schedule.interval)[steps - 1].tolist() == [22, 19, 16, 13, 10, 7, 6, 6]


def replay(values, epsilon):
  """Step sizes that a sequence of losses must lead to, written from the paper with plain loops."""
  num = len(values) - 1
  sizes, size = [], 2 * epsilon
  interval, since, reduced, best_before = max(int(0.22 * num), 1), 0, True, values[0]
  for i in range(1, num + 1):
    since += 1
    if since == interval:
      rises = sum(values[j] > values[j - 1] for j in range(i - interval + 1, i + 1))
      best = max(values[: i + 1])
      stalled = rises <= 0.75 * interval or (not reduced and best <= best_before)
      size, reduced, best_before = (size / 2 if stalled else size), stalled, best
      interval, since = max(interval - max(int(0.03 * num), 1), max(int(0.06 * num), 1)), 0
    sizes.append(size)
  return sizes


def test_step_size_trace(mlp, key):
  epsilon, num_steps = 0.05, 34
  stage = _apgd.stage(mlp.logits_fn, norm="linf", loss="ce", num_steps=num_steps)
  each = keys.per_example(key, 12)
  state = stage.start(each, mlp.images, mlp.labels, epsilon, _stage.Variant(0, 0))

  def step(state, x):
    new = stage.step(state, x, epsilon)
    return new, (new.value, new.step_size, new.best_value)

  _, (values, sizes, best) = jax.lax.scan(step, state, stage.schedule)
  values = np.concatenate([np.asarray(state.value)[None], np.asarray(values)])
  for example in range(12):
    np.testing.assert_allclose(sizes[:, example], replay(values[:, example], epsilon), rtol=1e-6)
  assert len(np.unique(np.asarray(sizes)[-1])) > 1  # examples really differ
  assert (np.diff(np.asarray(best), axis=0) >= 0).all()


def check_exact(model, norm, loss, key):
  distances = model.distances(norm)
  epsilon = float(np.median(distances[distances > 0]))
  out = jax.jit(
    lambda x: attacks.apgd(
      key, model.logits_fn, x, model.labels, epsilon=epsilon, norm=norm, loss=loss, num_steps=20
    )
  )(model.images)
  assert attacks.largest_violation(out, model.images, epsilon=epsilon, norm=norm) < 1e-6
  robust = np.asarray(jnp.argmax(model.logits_fn(out), axis=-1) == model.labels)
  clear = np.abs(distances - epsilon) > 2e-3 * epsilon
  np.testing.assert_array_equal(robust[clear], (distances > epsilon)[clear])


def test_linear_robust_accuracy_is_exact(linear, key):
  check_exact(linear, "linf", "dlr-targeted", key)


@pytest.mark.parametrize("loss", ["ce", "margin", "ce-targeted"])
def test_binary_linear_is_exact_for_every_loss(linear2, loss, key):
  check_exact(linear2, "l2" if loss == "ce" else "linf", loss, key)


def test_first_iterate_lies_on_the_sphere(key):
  images = jnp.full((3, 4, 4, 1), 0.5)
  for norm in attacks.NORMS:
    x = _apgd._first_iterate(jax.random.split(key, 3), images, epsilon=0.1, norm=norm)
    np.testing.assert_allclose(attacks.norms(x - images, norm=norm), 0.1, rtol=1e-5)


def test_stronger_than_one_step_and_independent_of_the_batch(mlp, key):
  each = keys.per_example(key, 12)

  @jax.jit
  def attack(keys, images, labels):
    return attacks.apgd(keys, mlp.logits_fn, images, labels, epsilon=0.04, num_steps=15)

  def run(rows):
    return np.asarray(attack(each[rows], mlp.images[rows], mlp.labels[rows]))

  rows = np.array([5, 2] * 6)
  whole, part = run(np.arange(12)), run(rows)
  np.testing.assert_allclose(part, whole[rows], atol=1e-6)
  margin = attacks.OBJECTIVES["margin"]
  single = attacks.fgsm(key, mlp.logits_fn, mlp.images, mlp.labels, epsilon=0.04)
  gain = margin(mlp.logits_fn(whole), mlp.labels) - margin(mlp.logits_fn(single), mlp.labels)
  assert float(gain.mean()) > -1e-3


def test_errors(linear4, key):
  with pytest.raises(ValueError, match="loss must be one of"):
    attacks.apgd(key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=1.0, loss="l1")
  with pytest.raises(ValueError, match="K >= 2"):
    attacks.apgd(key, lambda x: x.sum((1, 2)), linear4.images[..., :1], linear4.labels, epsilon=1.0)
