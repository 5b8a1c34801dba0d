# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, keys
from mixboost_jax.attacks import _autoattack

SMALL = attacks.Budget(num_steps=20, num_queries=100, num_targets=9, num_samples=4)


def check_exact(linear, norm, key, version="standard"):
  distances = linear.distances(norm)
  run = attacks.AutoAttack(linear.logits_fn, norm=norm, version=version, batch_size=8, budget=SMALL)
  middle = float(np.median(distances[distances > 0]))
  accuracies = []
  for epsilon in (0.0, middle * 1.01, 2.0 * float(distances.max())):
    result = run(key, linear.images, linear.labels, epsilon=epsilon)
    np.testing.assert_array_equal(result.correct, distances > 0)
    np.testing.assert_array_equal(result.robust, distances > epsilon)
    broken = jnp.argmax(linear.logits_fn(jnp.asarray(result.images)), axis=-1) != linear.labels
    np.testing.assert_array_equal(~np.asarray(broken), result.robust)
    violation = attacks.largest_violation(
      jnp.asarray(result.images), linear.images, epsilon=epsilon, norm=norm
    )
    assert violation < 1e-6
    accuracies.append(result.accuracy_after())
  assert accuracies[0][run.names[-1]] == accuracies[0]["clean"] == (distances > 0).mean()
  assert accuracies[-1][run.names[-1]] == 0


@pytest.mark.parametrize("linear", [2, 3, 10], indirect=True)
def test_linear_models_give_the_exact_robust_accuracy(linear, key):
  # With ten classes the whole suite; with few, the two attacks whose loss has to fall back.
  whole = linear.weights.shape[1] == 10
  check_exact(linear, "linf", key, "standard" if whole else ("apgd-dlr", "apgd-t"))


def test_the_same_in_l2(linear4, key):
  check_exact(linear4, "l2", key, ("apgd-t", "fab-t"))


def test_nothing_is_compiled_twice_and_batches_do_not_matter(mlp, key):
  traces = []

  def logits_fn(x):
    traces.append(x.shape)
    return mlp.logits_fn(x)

  small = attacks.Budget(num_steps=10, num_queries=50, num_targets=2)
  run = attacks.AutoAttack(logits_fn, batch_size=4, budget=small)
  result = run(key, mlp.images, mlp.labels, epsilon=0.05)
  count = len(traces)
  assert {shape[0] for shape in traces} <= {1, 4}  # one row only to learn K
  run(key, mlp.images[:7], mlp.labels[:7], epsilon=0.02)
  assert [shape for shape in traces[count:] if shape[0] != 1] == []

  each = keys.per_example(key, 12)
  order = np.random.default_rng(0).permutation(12)
  shuffled = run(each[order], mlp.images[order], mlp.labels[order], epsilon=0.05)
  np.testing.assert_array_equal(shuffled.robust, result.robust[order])
  np.testing.assert_allclose(shuffled.images, result.images[order], atol=1e-6)
  assert 0 < result.robust.sum() < 12, "pick an epsilon that breaks some images"


def test_attacks_work_on_survivors_only(linear4, key):
  seen = []
  result = attacks.autoattack(
    key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=0.03, batch_size=8,
    budget=SMALL, on_attack=lambda name, left: seen.append((name, left)),
  )  # fmt: skip
  assert [name for name, _ in seen] == list(attacks.VERSIONS["standard"])
  accuracy = result.accuracy_after()
  assert [left / 24 for _, left in seen] == [accuracy[name] for name, _ in seen]
  natural = ~result.correct
  assert (result.broken_by[natural] == -1).all()
  np.testing.assert_array_equal(result.images[natural], np.asarray(linear4.images)[natural])


def test_random_predictors_need_the_rand_version(linear4, key):
  def noisy(key, x):
    each = keys.per_example(key, x.shape[0])
    noise = jax.vmap(lambda k: jax.random.normal(k, (4,)))(each)
    return linear4.logits_fn(x) + 0.01 * noise

  with pytest.raises(ValueError, match="version='rand'"):
    attacks.autoattack(key, noisy, linear4.images, linear4.labels, epsilon=0.1)
  result = attacks.autoattack(
    key, noisy, linear4.images, linear4.labels, epsilon=0.2, version="rand", batch_size=24,
    budget=SMALL,
  )  # fmt: skip
  assert result.attacks == ("apgd-ce", "apgd-dlr")
  assert result.robust.mean() < result.correct.mean()


def test_plus_and_custom_versions(linear4, key):
  plus = attacks.AutoAttack(linear4.logits_fn, version="plus")
  assert plus.names == ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
  assert plus.restarts == {"apgd-ce": 5, "apgd-dlr": 5, "fab": 5}
  epsilon = float(np.median(linear4.distances("l2")))
  result = attacks.autoattack(
    key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=epsilon, norm="l2",
    version=("square", "fab"), batch_size=24, budget=SMALL,
  )  # fmt: skip
  assert result.attacks == ("square", "fab")
  expected = (result.images != np.asarray(linear4.images)).any(axis=(1, 2, 3))
  np.testing.assert_array_equal(expected, result.broken_by >= 0)
  np.testing.assert_array_equal(result.robust, linear4.distances("l2") > epsilon)
  with pytest.raises(ValueError, match=r"unknown name 'apdg-ce'.*Did you mean 'apgd-ce'"):
    attacks.AutoAttack(linear4.logits_fn, version=("apdg-ce",))
  with pytest.raises(ValueError, match="batch_size must be >= 1"):
    attacks.AutoAttack(linear4.logits_fn, batch_size=0)


def test_the_last_batch_shrinks_with_the_survivors(mlp, key):
  assert _autoattack.sizes(256) == [256, 128, 64, 32, 16, 8]
  assert _autoattack.sizes(50) == [50, 25, 13, 7]
  assert _autoattack.sizes(3) == [3]
  chosen = list(_autoattack._survivors(np.arange(20, 39), 16, 99))
  np.testing.assert_array_equal(chosen[0], np.arange(20, 36))
  np.testing.assert_array_equal(chosen[1], [36, 37, 38, *[99] * 5])
  options = {"version": ("apgd-ce",), "budget": attacks.Budget(num_steps=13)}
  runs = [
    attacks.AutoAttack(mlp.logits_fn, batch_size=size, **options)(
      key, mlp.images, mlp.labels, epsilon=0.05
    )
    for size in (12, 4)
  ]
  np.testing.assert_array_equal(runs[0].broken_by, runs[1].broken_by)
  np.testing.assert_allclose(runs[0].images, runs[1].images, atol=1e-6)
  assert 0 < runs[0].robust.sum() < 12
