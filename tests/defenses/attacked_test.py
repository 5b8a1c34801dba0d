# SPDX-License-Identifier: Apache-2.0
"""Attacks that know the defense, on the defense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, defenses

EPSILON = 0.1
BUDGET = {"epsilon": EPSILON, "step_size": 0.02, "num_steps": 15}


infer = jax.jit(
  defenses.mixup_inference, static_argnames=("logits_fn", "mode", "mix_weight", "num_draws")
)


def true_probability(toy, images):
  out = infer(
    jax.random.key(99), toy.logits_fn, images, toy.pool, mode="ol", mix_weight=0.6, num_draws=200
  )
  return float(jnp.take_along_axis(out, toy.labels[:, None], axis=-1).mean())


def defended(toy, num_draws=5):
  def predict(key, images):
    return defenses.mixup_inference(
      key, toy.logits_fn, images, toy.pool, mode="ol", mix_weight=0.6, num_draws=num_draws,
      has_gradient=True,
    )  # fmt: skip

  return predict


def test_end_to_end_is_stronger_than_the_published_variant(toy, key):
  sample = defenses.partner_sampler(toy.pool, toy.labels, mode="ol")
  partners = defenses.draw_partners(key, toy.pool, toy.labels, mode="ol", num_draws=5)
  crafted = {
    "clean": toy.images,
    "oblivious": attacks.pgd(key, toy.logits_fn, toy.images, toy.labels, **BUDGET),
    "published": attacks.averaged_perturbation(
      key, toy.logits_fn, toy.images, partners, toy.labels, mix_weight=0.6, **BUDGET
    ),
    "paper": attacks.adaptive_mixup(
      key, toy.logits_fn, sample, toy.images, toy.labels, mix_weight=0.6, num_samples=5, **BUDGET
    ),
    "end-to-end": attacks.end_to_end(key, defended(toy, 15), toy.images, toy.labels, **BUDGET),
  }
  for name, images in crafted.items():
    violation = attacks.largest_violation(images, toy.images, epsilon=EPSILON, norm="linf")
    assert violation < 1e-6, name
  left = {name: true_probability(toy, images) for name, images in crafted.items()}
  assert left["end-to-end"] < left["oblivious"] < left["clean"], left
  assert max(left["end-to-end"], left["paper"]) < left["published"], left


@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_end_to_end_options(toy, loss, key):
  out = attacks.end_to_end(
    key, defended(toy, 3), toy.images, toy.labels, loss=loss, num_samples=2, restarts=2,
    keep="best", **{**BUDGET, "num_steps": 3},
  )  # fmt: skip
  assert attacks.largest_violation(out, toy.images, epsilon=EPSILON, norm="linf") < 1e-6
  assert true_probability(toy, out) < true_probability(toy, toy.images)


def test_every_baseline_can_be_attacked(toy, key):
  for name, strength in (
    ("rotation", {"max_degrees": 20.0}),
    ("gaussian_noise", {"noise_std": 0.1}),
  ):
    predict = defenses.build({"name": name, "num_draws": 3, **strength}, toy.logits_fn)
    out = attacks.end_to_end(key, predict, toy.images, toy.labels, **{**BUDGET, "num_steps": 4})
    picked = jnp.take_along_axis(
      predict(key, out) - predict(key, toy.images), toy.labels[:, None], axis=-1
    )
    assert float(picked.mean()) < -0.01, name


def test_adaptive_gradient_is_that_of_equation_24(toy, key):
  """One unit step in L2 shows the direction: the mean gradient over the same draws."""
  sample = defenses.partner_sampler(toy.pool, toy.labels, mode="ol")
  seen = []

  def recorded(keys):
    partners = sample(keys)
    jax.debug.callback(lambda p: seen.append(np.asarray(p)), partners)
    return partners

  for average in ("loss", "probabilities", "logits"):
    seen.clear()
    # Without vmap, so that the callback sees one draw at a time.
    out = attacks.adaptive_mixup(
      key, toy.logits_fn, recorded, toy.images, toy.labels, mix_weight=0.6, num_samples=3,
      average=average, epsilon=1e-3, step_size=1e-3, num_steps=1, norm="l2", random_start=False,
    )  # fmt: skip
    jax.effects_barrier()
    partners = jnp.asarray(np.stack(seen[:3]))
    assert partners.shape == (3, *toy.images.shape)

    def loss(x, partners=partners, average=average):
      logits = jnp.stack([toy.logits_fn(0.6 * x + 0.4 * p) for p in partners])
      if average == "logits":
        values = -jax.nn.log_softmax(logits.mean(0))
      elif average == "probabilities":
        values = -jnp.log(jax.nn.softmax(logits).mean(0))
      else:
        values = -jax.nn.log_softmax(logits).mean(0)
      return jnp.take_along_axis(values, toy.labels[:, None], -1).sum()

    gradient = jax.grad(loss)(toy.images)
    direction = gradient / jnp.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
    expected = jnp.clip(toy.images + 1e-3 * direction, 0, 1)
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_fresh_and_fixed_draws_differ(toy, key):
  sample = defenses.partner_sampler(toy.pool, toy.labels, mode="ol")

  def run(fresh):
    return attacks.adaptive_mixup(
      key, toy.logits_fn, sample, toy.images, toy.labels, mix_weight=0.6, num_samples=2,
      fresh=fresh, random_start=False, **BUDGET,
    )  # fmt: skip

  assert float(jnp.abs(run(True) - run(False)).max()) > 1e-3


def test_published_variant_with_weight_one_is_plain_pgd(toy, key):
  partners = jnp.zeros((1, *toy.images.shape))
  out = attacks.averaged_perturbation(
    key, toy.logits_fn, toy.images, partners, toy.labels, mix_weight=1.0, **BUDGET
  )
  loss = attacks.OBJECTIVES["ce"]
  plain = attacks.pgd(key, toy.logits_fn, toy.images, toy.labels, **BUDGET)
  values = [loss(toy.logits_fn(x), toy.labels).mean() for x in (out, plain, toy.images)]
  assert abs(values[0] - values[1]) < 0.05 * (values[1] - values[2])
  wide = attacks.averaged_perturbation(
    key, toy.logits_fn, toy.images, partners, toy.labels, mix_weight=1.0, clip=False, **BUDGET
  )
  assert float(attacks.norms(wide - toy.images, norm="linf").max()) <= EPSILON + 1e-6


def test_black_box_and_ensemble_attacks_reach_the_defense(toy, key):
  predictor = attacks.from_probabilities(defended(toy, 2))
  assert attacks.is_random(predictor)
  budget = attacks.Budget(num_steps=3, num_samples=2)
  result = attacks.autoattack(
    key, predictor, toy.images, toy.labels, epsilon=0.3, version="rand", batch_size=10,
    budget=budget,
  )  # fmt: skip
  assert result.robust.sum() < result.correct.sum()
  out = jax.jit(
    lambda x: attacks.square(key, predictor, x, toy.labels, epsilon=EPSILON, num_queries=30)
  )(toy.images)
  assert true_probability(toy, out) < true_probability(toy, toy.images)


def test_errors(toy, key):
  with pytest.raises(ValueError, match="average must be 'loss'"):
    attacks.adaptive_mixup(
      key, toy.logits_fn, lambda k: k, toy.images, toy.labels, mix_weight=0.5, num_samples=1,
      loss="margin", **BUDGET,
    )  # fmt: skip
  with pytest.raises(ValueError, match="num_samples must be >= 1"):
    attacks.adaptive_mixup(
      key, toy.logits_fn, lambda k: k, toy.images, toy.labels, mix_weight=0.5, num_samples=0,
      **BUDGET,
    )  # fmt: skip
