# SPDX-License-Identifier: Apache-2.0

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks


def robust(model, adversarial):
  return np.asarray(jnp.argmax(model.logits_fn(adversarial), axis=-1) == model.labels)


@pytest.mark.parametrize("norm", attacks.NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_binary_linear_robust_accuracy_is_exact(norm, loss, linear2, key):
  model = linear2
  distances = model.distances(norm)
  attack = jax.jit(
    lambda epsilon: attacks.pgd(
      key, model.logits_fn, model.images, model.labels, epsilon=epsilon, step_size=epsilon / 4,
      num_steps=12, norm=norm, loss=loss,
    )
  )  # fmt: skip
  for epsilon in (0.0, float(np.median(distances)), 1.1 * float(distances.max())):
    out = attack(epsilon)
    assert attacks.largest_violation(out, model.images, epsilon=epsilon, norm=norm) < 1e-6
    clear = np.abs(distances - epsilon) > 0.02 * epsilon  # the L2 path ends near the optimum
    np.testing.assert_array_equal(robust(model, out)[clear], (distances > epsilon)[clear])


def test_zero_epsilon_returns_the_image(linear4, key):
  out = attacks.pgd(
    key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=0.0, step_size=0.1, num_steps=3
  )
  np.testing.assert_array_equal(out, linear4.images)


def test_one_step_by_hand():
  weights = jnp.array([[1.0, -1.0], [-2.0, 2.0], [0.0, 0.0]])
  images = jnp.array([0.5, 0.02, 0.5]).reshape(1, 1, 3, 1)
  out = attacks.fgsm(
    jax.random.key(0),
    lambda x: x.reshape(1, 3) @ weights,
    images,
    jnp.array([0]),
    epsilon=0.1,
  )
  # Towards class 1: pixel 0 falls, pixel 1 rises, pixel 2 has no gradient.
  np.testing.assert_allclose(out.ravel(), [0.4, 0.12, 0.5], rtol=1e-6)
  back = attacks.fgsm(
    jax.random.key(0), lambda x: x.reshape(1, 3) @ weights, images, jnp.array([0]),
    epsilon=0.1, targeted=True,
  )  # fmt: skip
  np.testing.assert_allclose(back.ravel(), [0.6, 0.0, 0.5], atol=1e-7)


def test_results_do_not_depend_on_the_batch(mlp, key):
  run = jax.jit(
    lambda keys, x, y: attacks.pgd(
      keys, mlp.logits_fn, x, y, epsilon=0.1, step_size=0.02, num_steps=5, restarts=2
    )
  )
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(12))
  whole = run(keys, mlp.images, mlp.labels)
  order = jnp.array([7, 3, 0] * 4)
  part = run(keys[order], mlp.images[order], mlp.labels[order])
  np.testing.assert_allclose(part, whole[order], atol=1e-6)
  other = run(keys[::-1], mlp.images, mlp.labels)
  assert not np.allclose(other, whole, atol=1e-3)


def test_more_steps_restarts_and_radius_help(mlp, key):
  @jax.jit
  def accuracy(epsilon):
    out = attacks.pgd(
      key, mlp.logits_fn, mlp.images, mlp.labels, epsilon=epsilon, step_size=epsilon / 4,
      num_steps=8, keep="best",
    )  # fmt: skip
    return (jnp.argmax(mlp.logits_fn(out), axis=-1) == mlp.labels).mean()

  curve = [float(accuracy(e)) for e in (0.0, 0.03, 0.06, 0.12, 0.3, 1.0)]
  assert curve[0] == 1
  assert curve[-1] == 0
  assert all(a >= b for a, b in itertools.pairwise(curve)), curve
  assert len(set(curve)) > 2, curve


def test_best_iterate_and_restarts_are_never_worse(mlp, key):
  def losses(**options):
    out = attacks.pgd(
      key, mlp.logits_fn, mlp.images, mlp.labels, epsilon=0.05, step_size=0.05, num_steps=4,
      loss="margin", **options,
    )  # fmt: skip
    return np.asarray(attacks.OBJECTIVES["margin"](mlp.logits_fn(out), mlp.labels))

  last, best, many = losses(), losses(keep="best"), losses(restarts=4)
  assert (best >= last - 1e-6).all()
  assert (best > last + 1e-4).any()
  assert (many >= last - 1e-6).all()
  assert (many > last + 1e-4).any()


def test_targeted_attack_reaches_its_class(linear4, key):
  targets = attacks.random_targets(key, linear4.labels, num_classes=4)
  assert (targets != linear4.labels).all()
  out = attacks.pgd(
    key, linear4.logits_fn, linear4.images, targets, epsilon=0.5, step_size=0.1, num_steps=10,
    targeted=True,
  )  # fmt: skip
  assert (jnp.argmax(linear4.logits_fn(out), axis=-1) == targets).all()


def test_momentum_keeps_the_direction_of_earlier_steps():
  # The gradient's sign flips after the first step; with momentum 1 the two cancel out.
  def logits_fn(x):
    height = -jnp.abs(x.reshape(1, 1) - 0.55)
    return jnp.concatenate([-height, height], axis=1)

  images = jnp.full((1, 1, 1, 1), 0.5)
  options = {"epsilon": 0.3, "num_steps": 2, "step_size": 0.1}
  key, labels = jax.random.key(0), jnp.array([0])
  plain = attacks.momentum_pgd(key, logits_fn, images, labels, momentum=0.0, **options)
  heavy = attacks.momentum_pgd(key, logits_fn, images, labels, momentum=1.0, **options)
  np.testing.assert_allclose(plain.ravel(), [0.5], atol=1e-6)  # up, then down
  np.testing.assert_allclose(heavy.ravel(), [0.6], atol=1e-6)  # up, then 1 - 1 = 0


def test_presets_are_the_papers(linear4, key):
  assert attacks.PRESETS["pixmix"] == {
    "norm": "linf", "epsilon": 2 / 255, "step_size": 0.5 / 255, "num_steps": 20,
    "random_start": True, "clip_start": False,
  }  # fmt: skip
  for name in ("pixmix", "mixup-inference-50-targeted", "jku-0.5-100", "tramer-2020"):
    preset = attacks.PRESETS[name]
    small = {**preset, "num_steps": 2}
    out = attacks.pgd(key, linear4.logits_fn, linear4.images, linear4.labels, **small)
    violation = attacks.largest_violation(
      out, linear4.images, epsilon=preset["epsilon"], norm=preset["norm"]
    )
    assert violation < 1e-6, name


def test_start_may_leave_the_box_before_the_first_step():
  images, seen = jnp.zeros((64, 2, 2, 1)), []

  def logits_fn(x):
    jax.debug.callback(lambda low: seen.append(float(low)), x.min())
    return jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], axis=1)

  for clip in (True, False):
    seen.clear()
    options = {"epsilon": 0.1, "step_size": 0.01, "num_steps": 1, "clip_start": clip}
    attacks.pgd(jax.random.key(0), logits_fn, images, jnp.zeros(64, jnp.int32), **options)
    jax.effects_barrier()
    assert (min(seen) < -0.05) == (not clip)


def test_errors(linear4, key):
  with pytest.raises(ValueError, match="restarts >= 1 and keep"):
    attacks.pgd(
      key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=0.1, step_size=0.1,
      num_steps=1, keep="first",
    )  # fmt: skip
  with pytest.raises(ValueError, match="num_steps must be >= 1"):
    attacks.momentum_pgd(
      key, linear4.logits_fn, linear4.images, linear4.labels, epsilon=0.1, num_steps=0
    )
