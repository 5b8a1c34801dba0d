# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax import defenses

STATIC = ("logits_fn", "mode", "mix_weight", "num_draws", "max_rows", "has_gradient")
draw = jax.jit(defenses.mixup_draws, static_argnames=STATIC)
infer = jax.jit(
  defenses.mixup_inference, static_argnames=(*STATIC, "mix_weight_pl", "threshold", "fallback")
)


@pytest.mark.parametrize("mode", ["pl", "ol"])
@pytest.mark.parametrize("attacked", [False, True])
def test_table_one_is_met_exactly(ideal, mode, attacked, key):
  """F = H + G: every entry of the paper's Table 1."""
  weight, draws = 0.6, 400
  images = ideal.adversarial if attacked else ideal.clean
  plain = jax.nn.softmax(ideal.logits_fn(images))
  shift = 0.9 if attacked else 0.0
  np.testing.assert_allclose(plain[:, :2], [[1 - shift, shift]] * 6, atol=1e-6)
  outputs = draw(
    key, ideal.logits_fn, images, ideal.pool, mode=mode, mix_weight=weight, num_draws=draws
  )
  small = 0.9 * weight**2 if attacked else 0.0  # G(lambda d)
  ideal_true, ideal_predicted = defenses.ideal_prediction(
    mode=mode, mix_weight=weight, num_classes=ideal.num_classes, adversarial=attacked,
    gain_true=-small, gain_predicted=small,
  )  # fmt: skip
  defended = np.asarray(outputs.mean(axis=0))
  predicted = 1 if attacked else 0
  np.testing.assert_allclose(defended[:, predicted], ideal_predicted, atol=1e-5)
  chance = 1 / (ideal.num_classes - 1) if mode == "ol" and attacked else 1.0
  error = (1 - weight) * (chance * (1 - chance) / (draws * 6)) ** 0.5
  assert abs(defended[:, 0].mean() - ideal_true) <= 4 * error + 1e-5


def test_error_falls_like_one_over_root_n(ideal4, key):
  # MI-OL on adversarial input: F_y is lambda + G + (1 - lambda) Bernoulli(1 / (K - 1)).
  weight, chance = 0.5, 1 / 3
  for draws in (4, 36):
    defended = infer(
      key, ideal4.logits_fn, ideal4.adversarial, ideal4.pool, mode="ol", mix_weight=weight,
      num_draws=draws,
    )  # fmt: skip
    expected = (1 - weight) * (chance * (1 - chance) / draws) ** 0.5
    measured = float(defended[:, 0].std(ddof=1))
    assert abs(measured / expected - 1) < 4 / (2 * 299) ** 0.5, (draws, measured, expected)


def test_linear_model_identity(key):
  rng = np.random.default_rng(0)
  weights = rng.dirichlet(np.ones(3), size=12)  # probabilities linear in images that sum to one

  def logits_fn(x):
    return jnp.log(x.reshape(x.shape[0], -1) @ jnp.asarray(weights, jnp.float32))

  def draw(num):
    return rng.dirichlet(np.ones(12), size=num).reshape(num, 2, 2, 3).astype(np.float32)

  pool_images, images = draw(30), jnp.asarray(draw(4))
  pool = defenses.build_pool(pool_images, np.arange(30) % 3, num_classes=3)
  out = infer(key, logits_fn, images, pool, mode="any", mix_weight=0.7, num_draws=2000)
  plain, partners = np.asarray(jax.nn.softmax(logits_fn(images))), pool_images.reshape(30, 12)
  outputs = partners @ weights
  expected = 0.7 * plain + 0.3 * outputs.mean(axis=0)
  error = 0.3 * outputs.std(axis=0) / 2000**0.5
  assert (np.abs(out - expected) <= 4 * error + 1e-5).all()


@pytest.mark.parametrize("mode", ["pl", "ol", "any"])
def test_weight_one_is_the_plain_model(toy, mode, key):
  out = infer(key, toy.logits_fn, toy.images, toy.pool, mode=mode, mix_weight=1.0, num_draws=3)
  np.testing.assert_allclose(out, jax.nn.softmax(toy.logits_fn(toy.images)), atol=1e-6)


def test_weight_zero_forgets_the_input(ideal, key):
  out = infer(key, ideal.logits_fn, ideal.clean, ideal.pool, mode="ol", mix_weight=0.0, num_draws=8)
  np.testing.assert_allclose(out[:, 0], 0, atol=1e-6)


def test_sampled_weights_cover_their_range(ideal4, key):
  outputs = draw(
    key, ideal4.logits_fn, ideal4.clean, ideal4.pool, mode="ol", mix_weight=(0.4, 0.8), num_draws=20
  )
  weights = np.asarray(outputs[..., 0])  # on clean input F_y equals the weight
  assert 0.4 <= weights.min() < 0.41
  assert 0.79 < weights.max() <= 0.8
  assert abs(weights.mean() - 0.6) < 4 * 0.4 / (12 * weights.size) ** 0.5


def test_combined_switches_and_falls_back(ideal, key):
  both = jnp.concatenate([ideal.clean, ideal.adversarial])

  def run(**options):
    return np.asarray(
      infer(
        key, ideal.logits_fn, both, ideal.pool, mode="combined", mix_weight=0.4,
        mix_weight_pl=0.6, num_draws=4, **options,
      )
    )  # fmt: skip

  # PL: clean stays at 1 (gap 0); adversarial goes from .9 to .4 + .9 * .36 = .724 (gap .176).
  plain = np.asarray(jax.nn.softmax(ideal.logits_fn(both)))
  never = run(threshold=0.2)
  np.testing.assert_allclose(never, plain, atol=1e-6)
  as_published = run(threshold=0.2, fallback="pl")
  np.testing.assert_allclose(as_published[:6, 0], 1.0, atol=1e-6)
  np.testing.assert_allclose(as_published[6:, 1], 0.724, atol=1e-5)
  caught = run(threshold=0.1)
  np.testing.assert_allclose(caught[:6], plain[:6], atol=1e-6)
  np.testing.assert_allclose(caught[6:, 1], 0.9 * 0.4**2, atol=1e-5)  # MI-OL: G(lambda d)


def test_chunks_and_batches_do_not_matter(toy, key):
  keys = jax.random.split(key, 10)
  options = {"mode": "ol", "mix_weight": (0.3, 0.9), "num_draws": 7}
  whole = infer(keys, toy.logits_fn, toy.images, toy.pool, **options)
  np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
  for max_rows in (1, 16):
    part = infer(keys, toy.logits_fn, toy.images, toy.pool, max_rows=max_rows, **options)
    np.testing.assert_allclose(part, whole, atol=1e-6)
  rows = jnp.array([3, 4, 4, 3, 3, 3, 4, 4, 4, 4])
  few = infer(keys[rows], toy.logits_fn, toy.images[rows], toy.pool, **options)
  np.testing.assert_allclose(few, whole[rows], atol=1e-6)
  again = infer(keys[::-1], toy.logits_fn, toy.images, toy.pool, **options)
  assert not np.allclose(again, whole, atol=1e-4)


@pytest.mark.parametrize("max_rows", [None, 8])
def test_gradient_equals_finite_differences_with_a_frozen_pool(toy, max_rows, key):
  mask = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)

  @jax.jit
  def value(images):
    out = infer(
      key, toy.logits_fn, images, toy.pool, mode="ol", mix_weight=0.6, num_draws=6,
      predicted=toy.labels[:3], max_rows=max_rows, has_gradient=True,
    )  # fmt: skip
    return (out * mask).sum()

  check_grads(value, (0.1 + 0.8 * toy.images[:3],), order=1, modes=["rev"], eps=1e-2, rtol=1e-2)


def test_errors(toy, key):
  def run(**options):
    options = {"mode": "ol", "mix_weight": 0.5, **options}
    return infer(key, toy.logits_fn, toy.images, toy.pool, **options)

  with pytest.raises(ValueError, match="mode must be one of"):
    run(mode="mi-ol")
  with pytest.raises(ValueError, match=r"number in \[0, 1\] or \(low, high\), got 1.5"):
    run(mix_weight=1.5)
  with pytest.raises(ValueError, match=r"got \(0.8, 0.2\)"):
    run(mix_weight=(0.8, 0.2))
  with pytest.raises(ValueError, match="num_draws must be >= 1"):
    run(num_draws=0)
  with pytest.raises(ValueError, match="fallback must be one of"):
    run(mode="combined", fallback="repo")
  pool = defenses.build_pool(np.zeros((5, 4, 4, 2), np.float32), np.arange(5), num_classes=5)
  with pytest.raises(ValueError, match="the pool has 5 classes, the model 4"):
    infer(key, toy.logits_fn, toy.images, pool, mode="ol")
