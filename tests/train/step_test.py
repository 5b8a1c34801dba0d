# SPDX-License-Identifier: Apache-2.0
"""The compiled step: what it draws, what it computes, and that devices do not matter."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_trainer import TINY, advance, assert_close, build, dataset

from configs import base, speedrun
from mixboost_jax import data, keys, losses, masks, settings, train
from mixboost_jax.runtime import checkpoint
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.train import augmentation
from mixboost_jax.train import step as steps

BOOST = {"objective.name": "mixboost", "model.dropout": 0.3}
SMALL_RECIPE = {
  "data.name": "shapes",
  "data.train_examples": 72,
  "model.name": "speedrun-0.0625",
  "augment.num_mixing_images": 8,
  "mask.grid": 8,
  "train.batch_size": 16,
}


@pytest.fixture(scope="module")
def reference():
  """The trainer on one device, states before and after each of five steps, and their metrics."""
  trainer = build(1, **BOOST)
  states, history = [jax.device_get(trainer.state)], []
  for _ in range(5):
    state, metrics = step_from(trainer, states[-1])
    states.append(jax.device_get(state))
    history.append(metrics)
  return trainer, states, history


def step_from(trainer, state):
  placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), state, trainer.state)
  order = trainer.order(trainer.root, placed.step)
  state, metrics = trainer.step(placed, trainer.split, order, trainer.root)
  return state, {name: float(value) for name, value in metrics.items()}


def moved(after, before):
  """What training changed: parameters hardly move in a few steps, so their values prove little."""
  return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after.params, before.params)


def distance(tree, other):
  """Norm of the difference relative to the norm of `other`, over all leaves."""
  squares = [
    (np.sum(np.square(a - b, dtype=np.float64)), np.sum(np.square(b, dtype=np.float64)))
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
  ]
  difference, size = np.sum(squares, axis=0)
  return np.sqrt(difference / size)


def assert_steps_equal(trainer, reference):
  """Takes each step from the reference's state, then all in a row, where rounding may grow."""
  _, states, history = reference
  for before, after, metrics in zip(states[:-1], states[1:], history, strict=True):
    state, ours = step_from(trainer, before)
    state = jax.device_get(state)
    assert ours == pytest.approx(metrics, rel=1e-4, abs=1e-5)
    assert_close(state.params, after.params, tolerance=1e-4)
    assert_close(state.stats, after.stats, tolerance=1e-4)
    assert distance(moved(state, before), moved(after, before)) < 2e-5  # 1e-6 was seen
  state, in_a_row = advance(trainer, len(history))
  state = jax.device_get(state)
  assert distance(moved(state, states[0]), moved(states[-1], states[0])) < 2e-5
  for ours, metrics in zip(in_a_row, history, strict=True):
    del ours["gradient_norm"]  # where rounding grows first
    assert ours == pytest.approx({name: metrics[name] for name in ours}, rel=2e-4, abs=1e-5)


def test_devices_do_not_matter(reference):
  assert_steps_equal(build(8, **BOOST), reference)


def test_sharded_parameters_do_not_matter(reference, monkeypatch):
  monkeypatch.setattr(meshes, "SMALLEST_SPLIT", 128)
  trainer = build(8, **BOOST, **{"runtime.fsdp": 4})
  leaves = jax.tree.leaves(trainer.state.params)
  assert any(not leaf.sharding.is_fully_replicated for leaf in leaves)
  assert_steps_equal(trainer, reference)


def draws(trainer, ids, epoch):
  """Augmented pictures and masks of these examples, as the step draws them."""
  rows = jnp.searchsorted(trainer.split.ids, jnp.asarray(ids))
  batch = data.take(trainer.split, rows)
  augment_keys = keys.example_keys(trainer.root, keys.Stream.AUGMENT, batch.ids, epoch=epoch)
  images, _ = trainer.parts.augment(
    augment_keys, batch.images, losses.one_hot(batch.labels, trainer.parts.num_classes)
  )
  mask_keys = keys.example_keys(trainer.root, keys.Stream.MASK, batch.ids, epoch=epoch)
  return images, masks.cell_ranks(mask_keys, grid=trainer.parts.grid)


def test_draws_are_the_same_bit_for_bit_on_1_4_8_devices_and_any_batch():
  ids = dataset().train.ids[[3, 40, 7, 21, 60, 2, 9, 33]]
  expected = None
  for num_devices in (1, 4, 8):
    trainer = build(num_devices, **BOOST)
    sharding = meshes.batch_sharding(meshes.create(devices=jax.devices()[:num_devices]))
    compiled = jax.jit(lambda e, t=trainer: draws(t, ids, e), out_shardings=sharding)
    images, ranks = jax.device_get(compiled(jnp.int32(2)))
    expected = expected or (images, ranks)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(ranks, expected[1])
    if num_devices == 1:
      other_epoch = jax.device_get(compiled(jnp.int32(3)))
      alone = jax.jit(lambda e, t=trainer: draws(t, ids[4:5], e))(jnp.int32(2))
  np.testing.assert_array_equal(alone[0][0], expected[0][4])
  np.testing.assert_array_equal(alone[1][0], expected[1][4])
  assert not np.array_equal(other_epoch[1], expected[1])


# One with a mixing set, one with a table of operations; `contract_test.py` asks the same of all.
@pytest.mark.parametrize("word", ["pixmix", "trivial"])
def test_policies_train_and_draw_the_same_on_8_devices(word):
  policy = {"augment.policy": base.VARIANTS[word]["augment.policy"]}
  few = {"augment.num_mixing_images": 8} if word == "pixmix" else {}
  options = {**policy, **few, "objective.name": "mixboost"}

  def first_step(num_devices):
    """The loss of a step and the pictures of its batch, from one program."""
    trainer = build(num_devices, **options)
    order = trainer.order(trainer.root, trainer.state.step)

    def both(augment, state):
      parts = trainer.parts._replace(augment=augment)
      _, metrics = steps.train_step(state, trainer.split, order, trainer.root, parts=parts)
      ids = trainer.split.ids[order[: parts.batch_size]]
      return metrics["loss"], draws(trainer.replace(parts=parts), ids, 0)[0]

    return jax.device_get(jax.jit(both)(trainer.parts.augment, trainer.state))

  one, eight = first_step(1), first_step(8)
  assert one[0] == pytest.approx(eight[0], rel=1e-4)
  np.testing.assert_array_equal(one[1], eight[1])


def recipe(words, num_devices=1):
  """The shipped recipe on the tiny set, with a network of a sixteenth of the width."""
  config = base.override(speedrun.get_config(words), SMALL_RECIPE)
  run = settings.resolve(config)
  mesh = meshes.create(devices=jax.devices()[:num_devices])
  return train.build(run, dataset(), mesh)


def test_the_speedrun_recipe_on_8_devices_and_after_a_restart(tmp_path):
  trainer, other = recipe("pixmix+boost"), recipe("pixmix+boost", num_devices=8)
  middle, _ = advance(trainer, 6)  # into epoch 1, which mirrors the pictures of epoch 0
  whole, history = advance(trainer, 2, middle)
  across, elsewhere = advance(other, 8)
  assert elsewhere[-2:] == [pytest.approx(row, rel=2e-3, abs=2e-3) for row in history]
  assert_close(across.stats, whole.stats, tolerance=5e-3)
  with checkpoint.Checkpointer(tmp_path) as saver:
    saver.save(6, middle, metadata={})
    saver.wait()
    again = recipe("pixmix+boost")
    restored = saver.restore(again.state)
  assert restored is not None
  state, resumed = advance(again, 2, restored.state)
  assert resumed == history
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(whole))
  kernel = whole.stats["whitening"]["kernel"]
  np.testing.assert_array_equal(kernel, trainer.state.stats["whitening"]["kernel"])


def test_the_mixing_set_is_an_argument_of_the_compiled_step():
  policy = base.VARIANTS["pixmix"]["augment.policy"]
  trainer = build(1, **{"augment.policy": policy, "augment.num_mixing_images": 8})
  order = trainer.order(trainer.root, trainer.state.step)
  program, (augment,) = trainer.step.func, trainer.step.args
  text = program.lower(augment, trainer.state, trainer.split, order, trainer.root).as_text()
  main = text[text.index("@main(") :]
  assert f"tensor<8x{36 * 36 * 3}xui8>" in main[: main.index("->")]  # as rows
  assert not re.search(r"constant dense.*tensor<8x[\dx]+xui8>", text)


def test_grey_sets_are_mixed_with_grey_pictures():
  policy = {"augment.policy": base.VARIANTS["pixmix"]["augment.policy"]}
  run = settings.resolve(
    base.override(base.get_config(), {**policy, "augment.num_mixing_images": 2})
  )
  colour = dataset()
  images = np.ascontiguousarray(colour.train.images[..., :1])
  grey = dataclasses.replace(colour, train=dataclasses.replace(colour.train, images=images))
  one, three = (np.asarray(augmentation.mixing_pictures(run, x), float) for x in (grey, colour))
  np.testing.assert_allclose(one[..., 0], three @ (0.299, 0.587, 0.114), atol=1)


def test_several_steps_per_call_are_the_same_steps(reference):
  trainer = build(1, **BOOST, **{"train.steps_per_call": 2})
  state = jax.tree.map(jnp.copy, trainer.state)
  order = trainer.order(trainer.root, state.step)
  state, first = trainer.many_steps(state, trainer.split, order, trainer.root)
  state, second = trainer.many_steps(state, trainer.split, order, trainer.root)
  losses_seen = [*np.asarray(first["loss"]), *np.asarray(second["loss"])]
  np.testing.assert_allclose(losses_seen, [m["loss"] for m in reference[2][:4]], rtol=2e-5)


def test_fused_and_separate_views_agree(reference):
  separate, states, other_history = reference
  fused = build(1, **BOOST, **{"train.view_forward": "fused"})
  assert (fused.parts.fused, separate.parts.fused) == (True, False)
  state, history = advance(fused, 3)
  for ours, theirs in zip(history, other_history[:3], strict=True):
    assert ours == pytest.approx(theirs, rel=2e-4, abs=1e-5)
  assert_close(state.params, states[3].params, tolerance=2e-4)
  assert_close(state.stats, states[3].stats, tolerance=2e-4)


def test_statistics_of_the_masked_view_stay_out_unless_asked_for(reference):
  assert reference[0].parts.batchnorm_views == "clean"
  joint = advance(build(1, **{**BOOST, "train.batchnorm_views": "joint"}), 1)[0].stats
  baseline = advance(build(1, **{"model.dropout": 0.3}), 1)[0].stats
  assert_close(reference[1][1].stats, baseline, tolerance=1e-5)
  differs = jax.tree.map(lambda a, b: not np.allclose(a, b), joint, baseline)
  assert any(jax.tree.leaves(differs))


def test_loss_is_the_boost_loss_of_the_two_forwards():
  trainer = build(1, **{**BOOST, "model.dropout": 0.0})
  order = trainer.order(trainer.root, trainer.state.step)
  ids = trainer.split.ids[order[:16]]
  rows = np.searchsorted(np.asarray(trainer.split.ids), np.asarray(ids))
  labels = trainer.split.labels[rows]
  network, stats = trainer.state.params["network"], trainer.state.stats

  @jax.jit
  def two_forwards(epoch):
    images, ranks = draws(trainer, ids, epoch)
    masked = masks.apply(images, masks.keep_lowest(ranks, keep_rate=0.7), fill=0.5)
    return [trainer.parts.apply(network, stats, x, train=True)[0] for x in (images, masked)]

  clean_logits, masked_logits = two_forwards(jnp.int32(0))
  expected = losses.mixboost(clean_logits, masked_logits, labels).mean()
  _, history = advance(trainer, 1)
  # Two terms of about 2.3 cancel in the loss: one unit in the last place of these.
  assert history[0]["loss"] == pytest.approx(float(expected), abs=2.4e-7)
  cross_entropy = losses.cross_entropy(clean_logits, labels).mean()
  assert history[0]["cross_entropy"] == pytest.approx(float(cross_entropy), rel=1e-6)
  boost = losses.boost_entropy(clean_logits, masked_logits).mean()
  assert history[0]["boost_entropy"] == pytest.approx(float(boost), rel=1e-6)
  assert history[0]["learning_rate"] == pytest.approx(0.05)


def test_accumulation_averages_gradients_of_micro_batches():
  trainer = build(1, **{"train.accumulate": 2, "augment.flip": False, "augment.crop_padding": 0})
  order = trainer.order(trainer.root, trainer.state.step)
  stats, parts = trainer.state.stats, trainer.parts
  total = []
  half = jax.jit(
    lambda stats, batch: steps.gradients(
      trainer.state.params, stats, batch, jnp.int32(0), trainer.root, parts=parts
    )
  )
  for rows in (order[:8], order[8:16]):
    stats, (grads, _) = half(stats, data.take(trainer.split, rows))
    total.append(grads)
  mean = jax.tree.map(lambda a, b: (a + b) / 2, *total)
  updates, _ = parts.optimizer.update(mean, trainer.state.opt_state, trainer.state.params)
  state, _ = advance(trainer, 1)
  assert_close(moved(state, trainer.state), updates, tolerance=1e-3)
  assert_close(state.stats, stats, tolerance=1e-4)


def test_moving_average():
  trainer = build(1, **{"train.ema_decay": 0.75})
  state, _ = advance(trainer, 1)
  expected = jax.tree.map(
    lambda old, new: 0.75 * old + 0.25 * new,
    trainer.state.params["network"],
    state.params["network"],
  )
  assert_close(state.averaged, expected, tolerance=1e-5)
  assert state.evaluated_params() is state.averaged


def test_a_learned_fill_starts_at_the_mean_and_moves():
  trainer = build(1, **{**BOOST, "mask.fill": "learned"})
  np.testing.assert_array_equal(trainer.state.params["fill"], np.full((32, 32, 3), 0.5))
  state, _ = advance(trainer, 2)
  assert float(jnp.abs(state.params["fill"] - 0.5).max()) > 0


def test_three_term_objective_trains():
  overrides = {
    "objective.name": "interaction",
    "objective.low_weight": 0.1,
    "objective.mid_weight": 0.1,
    "objective.high_weight": 0.1,
  }
  _, history = advance(build(1, **overrides), 1)
  assert {"low_interaction", "mid_interaction", "high_interaction"} <= set(history[0])
  assert all(np.isfinite(value) for value in history[0].values())


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"train.batch_size": 73}, "train.batch_size=73 is larger than the 72 training examples"),
    ({"mask.grid": 64, **BOOST}, "config.mask.grid=64 is finer than the 32x32 images"),
  ],
)
def test_settings_that_do_not_fit_the_data(overrides, message):
  # The config alone cannot know: train_examples is larger than what there is.
  run = settings.resolve(
    base.override(base.get_config(), {**TINY, "data.train_examples": 0, **overrides})
  )
  with pytest.raises(ValueError, match=message):
    train.build(run, dataset(), meshes.create(devices=jax.devices()[:1]))
