# SPDX-License-Identifier: Apache-2.0
"""Adversarial training: the inner attack, and the step against a hand-written one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_trainer as tiny

from configs import base
from mixboost_jax import attacks, losses, settings
from mixboost_jax.keys import Stream, split_each
from mixboost_jax.train import adversary, objectives
from mixboost_jax.train import step as steps

QUICK = {"adversary.num_steps": 2, "adversary.step_size": 0.02}
AT, IAT, TRADES = (base.VARIANTS[word] | QUICK for word in ("at", "iat", "trades"))


def resolve(**overrides):
  return settings.resolve(base.override(base.get_config(), overrides))


def images_of(trainer):
  batch = tiny.first_batch(trainer, num=8)
  return batch, *jax.jit(lambda batch: tiny.augmented(trainer, batch))(batch)


def perturbed(trainer, batch, images, labels):
  """What the step trains on."""
  each = tiny.draw_keys(trainer, batch, Stream.ATTACK)
  network, stats = trainer.state.params["network"], trainer.state.stats
  return jax.jit(trainer.parts.perturb)(each, network, stats, images, labels)


@pytest.fixture(scope="module")
def at():
  """A trainer, the pictures of its first step, and what the step makes of them."""
  trainer = tiny.build(**AT)
  pictures = images_of(trainer)
  return trainer, pictures, perturbed(trainer, *pictures)


@pytest.fixture(scope="module")
def gradients(at):
  """Compiled `(running statistics, batch) -> (new statistics, (gradients, metrics))`."""
  trainer = at[0]
  params, epoch = trainer.state.params, jnp.int32(0)
  return jax.jit(
    lambda stats, batch: steps.gradients(
      params, stats, batch, epoch, trainer.root, parts=trainer.parts
    )
  )


@pytest.fixture(scope="module")
def adversarial(at):
  """The attack of the step on these pictures, written out."""
  trainer, (batch, images, labels), _ = at
  network, stats = trainer.state.params["network"], trainer.state.stats
  attack_keys, _, _ = split_each(tiny.draw_keys(trainer, batch, Stream.ATTACK), 3)
  settings = trainer.settings.adversary
  run = functools.partial(
    attacks.pgd,
    attack_keys,
    lambda x: trainer.parts.apply(network, stats, x, train=False)[0],
    epsilon=settings.epsilon,
    step_size=settings.step_size,
    num_steps=settings.num_steps,
  )
  return jax.jit(run)(images, labels.argmax(-1))


def test_at_gradient_is_that_of_a_hand_written_step(at, gradients, adversarial):
  trainer, (batch, images, labels), _ = at

  def loss(network):
    both = jnp.concatenate([images, adversarial])  # one batch for the normalisation
    logits, _ = trainer.parts.apply(network, trainer.state.stats, both, train=True)
    clean, changed = jnp.split(logits, 2)
    accuracy = (changed.argmax(-1) == batch.labels).mean()
    values = [losses.cross_entropy(half, labels).mean() for half in (clean, changed)]
    return 0.5 * sum(values), (*values, accuracy)

  network = trainer.state.params["network"]
  (value, parts), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(network)
  _, (grads, metrics) = gradients(trainer.state.stats, batch)
  assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
  assert float(metrics["clean_cross_entropy"]) == pytest.approx(float(parts[0]), rel=1e-4)
  assert float(metrics["adversarial_cross_entropy"]) == pytest.approx(float(parts[1]), rel=1e-4)
  assert float(metrics["adversarial_accuracy"]) == pytest.approx(float(parts[2]), abs=1e-6)
  tiny.assert_close(grads["network"], gradient, tolerance=1e-3)


def test_the_attack_stays_in_its_ball_and_raises_the_loss(at):
  trainer, (_, images, labels), (rows, row_labels) = at
  clean, adversarial = objectives.by_picture(rows, 2)
  np.testing.assert_array_equal(clean, images)
  np.testing.assert_array_equal(row_labels, jnp.repeat(labels, 2, axis=0))
  epsilon = trainer.settings.adversary.epsilon
  assert float(jnp.abs(adversarial - clean).max()) == pytest.approx(epsilon, abs=1e-6)
  assert float(adversarial.min()) >= 0
  assert float(adversarial.max()) <= 1
  predict = jax.jit(trainer.predictor(trainer.state))
  before, after = (losses.cross_entropy(predict(x), labels).mean() for x in (clean, adversarial))
  assert after > before


@pytest.mark.parametrize("left", ["true", "predicted"])
def test_the_attack_on_a_linear_network_goes_to_the_corner(left, key):
  weights = jax.random.normal(key, (48, 2))
  pictures = jax.random.uniform(jax.random.key(1), (6, 4, 4, 3))

  def network(x):
    return x.reshape(len(x), -1) @ weights

  found = resolve(**AT | {"adversary.labels": left, "adversary.num_steps": 5}).adversary
  labels = jnp.eye(2)[jnp.array([0, 1, 0, 1, 0, 1])]
  adversarial = adversary.attack(
    jax.random.split(key, 6), network, pictures, labels, adversary=found
  )
  avoided = labels.argmax(-1) if left == "true" else network(pictures).argmax(-1)
  direction = (weights[:, 1] - weights[:, 0])[None] * (1 - 2 * avoided)[:, None]
  corner = pictures + found.epsilon * jnp.sign(direction).reshape(pictures.shape)
  np.testing.assert_allclose(adversarial, jnp.clip(corner, 0, 1), atol=1e-6)
  assert not np.array_equal(labels.argmax(-1), network(pictures).argmax(-1))


def test_iat_without_mixing_is_at(at):
  options = IAT | {"adversary.mixup_alpha": 0.0, "adversary.mixup_partner": "roll"}
  plain, pictures, ours = at
  iat = tiny.build(**options)
  theirs = perturbed(iat, *pictures)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  logits = jax.random.normal(jax.random.key(0), (16, 10))
  values = [t.parts.objective.terms([logits], ours[1])["loss"] for t in (plain, iat)]
  np.testing.assert_array_equal(*values)


def test_iat_mixes_both_kinds_with_their_own_labels(at):
  batch, images, labels = at[1]
  rows, row_labels = perturbed(tiny.build(**IAT), batch, images, labels)
  mixed = objectives.by_picture(row_labels, 2)
  assert not np.allclose(mixed[0], mixed[1])
  for soft, pictures in zip(mixed, objectives.by_picture(rows, 2), strict=True):
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-6)
    assert int((soft > 0).sum(-1).max()) == 2
    assert not np.allclose(pictures, images, atol=0.1)


def test_trades_without_room_is_plain_training():
  """Clean and adversarial pictures coincide: no divergence, and the same batch statistics."""
  plain, trades = (
    tiny.advance(tiny.build(**options), 1)[1]
    for options in ({}, TRADES | {"adversary.epsilon": 0.0})
  )
  for one, other in zip(plain, trades, strict=True):
    assert other["divergence"] == pytest.approx(0, abs=1e-6)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize("boost_on", ["clean", "changed", "all"])
def test_boost_on_each_picture(boost_on):
  """Fused where the views are of one size, apart otherwise; the masked pictures are the right ones.

  The network has no normalisation here (batch statistics of one example per view cancel out).
  """
  options = {"objective.name": "mixboost", "objective.boost_on": boost_on, "mask.grid": 8}
  objective = objectives.build(
    *(getattr(resolve(**AT, **options), name) for name in ("objective", "mask", "adversary"))
  )
  assert objective.masked == {"clean": (0,), "changed": (1,), "all": (0, 1)}[boost_on]
  logits = jax.random.normal(jax.random.key(2), (6, 3))  # three examples, two pictures
  masked = jax.random.normal(jax.random.key(3), (3 * len(objective.masked), 3))
  labels = jnp.repeat(jnp.eye(3), 2, axis=0)
  terms = objective.terms([logits, masked], labels)
  cross_entropy = losses.cross_entropy(logits, labels).reshape(3, 2).mean(1)
  rows = logits.reshape(3, 2, 3)[:, list(objective.masked)].reshape(-1, 3)
  boost = losses.boost_entropy(rows, masked).reshape(3, -1).mean(1)
  np.testing.assert_allclose(terms["loss"], cross_entropy - boost, rtol=1e-5)
  np.testing.assert_allclose(terms["boost_entropy"], boost, rtol=1e-5)


def test_devices_accumulation_and_restarts_do_not_matter():
  options = IAT | {"objective.name": "mixboost", "objective.boost_on": "changed"}
  one, eight = (tiny.build(num, **options) for num in (1, 8))
  state, history = tiny.advance(one, 3)
  other, other_history = tiny.advance(eight, 2)
  other = jax.device_put(jax.device_get(other), jax.tree.map(lambda x: x.sharding, eight.state))
  other, rest = tiny.advance(eight, 1, state=other)
  for ours, theirs in zip(history, other_history + rest, strict=True):
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
  tiny.assert_close(jax.device_get(other.params), state.params, tolerance=1e-3)


def test_accumulation_attacks_each_micro_batch(gradients):
  trainer = tiny.build(**AT, **{"train.accumulate": 2})
  stats, total = trainer.state.stats, []
  order = trainer.order(trainer.root, trainer.state.step)
  for rows in (order[:8], order[8:16]):
    stats, (grads, _) = gradients(stats, tiny.data.take(trainer.split, rows))
    total.append(grads)
  mean = jax.tree.map(lambda a, b: (a + b) / 2, *total)
  updates, _ = trainer.parts.optimizer.update(mean, trainer.state.opt_state, trainer.state.params)
  state, _ = tiny.advance(trainer, 1)
  moved = jax.tree.map(lambda new, old: new - old, state.params, trainer.state.params)
  tiny.assert_close(moved, updates, tolerance=1e-3)


def test_dropout_keys_of_several_pictures_and_views():
  options = {**AT, "model.dropout": 0.3, "objective.name": "mixboost"}
  for share in (True, False):
    for boost_on in ("clean", "changed", "all"):
      trainer = tiny.build(
        **options, **{"train.share_dropout": share, "objective.boost_on": boost_on}
      )
      each = jax.random.split(jax.random.key(0), 4)
      pictures, masked = (jax.random.key_data(k) for k in steps._dropout_keys(each, trainer.parts))
      assert len(pictures) == 8
      chosen = pictures.reshape(4, 2, -1)[:, list(trainer.parts.objective.masked)].reshape(
        len(masked), -1
      )
      assert np.array_equal(chosen, masked) == share
      assert len(np.unique(pictures, axis=0)) == 8


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"adversary.name": "pgd"}, "config.adversary.name: expected one of none, at, iat, trades"),
    ({"adversary.epsilon": 8.0}, r"config.adversary.epsilon: expected a number in \[0, 1\]"),
    (
      {**TRADES, "adversary.random_start": False},
      "config.adversary.labels='probabilities' needs config.adversary.random_start=True",
    ),
    ({**AT, "adversary.network": "training"}, "it needs config.model.dropout=0, got 0.3"),
    ({**IAT, "adversary.clean_weight": 0.0}, r"clean_weight=0: interpolated .* \(0, 1\)"),
    (
      {"objective.name": "mixboost", "objective.boost_on": "changed"},
      "boost_on='changed' needs adversarial or augmented pictures",
    ),
    (
      {**AT, "objective.name": "mixboost", "adversary.clean_weight": 0.0},
      "boost_on='clean' needs clean pictures",
    ),
    (
      {**AT, "objective.name": "mixboost", "train.view_forward": "fused"},
      "view_forward='fused' needs a masked view of every picture",
    ),
  ],
)
def test_wrong_settings_give_one_clear_line(overrides, message):
  with pytest.raises(settings.ConfigError, match=message) as caught:
    resolve(**overrides)
  assert len(caught.value.problems) == 1


def test_madry_training_sees_adversarial_pictures_only(at, adversarial):
  trainer = tiny.build(**AT, **{"adversary.clean_weight": 0.0, "train.batch_size": 8})
  _, (metrics,) = tiny.advance(trainer, 1)
  assert "adversarial_accuracy" in metrics
  assert "accuracy" not in metrics
  network, stats = trainer.state.params["network"], trainer.state.stats
  forward = jax.jit(lambda x: trainer.parts.apply(network, stats, x, train=True)[0])
  expected = losses.cross_entropy(forward(adversarial), at[1][2]).mean()
  assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)
