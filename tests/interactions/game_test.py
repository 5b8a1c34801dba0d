# SPDX-License-Identifier: Apache-2.0
"""Games of pictures and tokens: which pixels a coalition shows, which reward it earns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions, masks
from mixboost_jax.interactions import _exact, _game

LABEL = 1


def logits_fn(images):
  """A small nonlinear network with fixed weights."""
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(8 * 8 * 3, 4)), jnp.float32)
  return jnp.tanh(images.reshape(-1, 192) @ weights * 0.3) * 3


@pytest.fixture
def picture():
  return jnp.asarray(np.random.default_rng(1).uniform(size=(8, 8, 3)), jnp.float32)


@pytest.mark.parametrize("grid", [1, 3, 4, 8])
def test_a_coalition_shows_the_cells_of_masks_apply(picture, grid):
  game = interactions.image_game(logits_fn, picture, LABEL, grid=grid, reward="logit", fill=0.3)
  coalitions = np.random.default_rng(2).random((5, grid * grid)) < 0.5
  shown = masks.apply(
    jnp.broadcast_to(picture, (5, 8, 8, 3)),
    jnp.asarray(coalitions.reshape(5, grid, grid)),
    fill=0.3,
  )
  np.testing.assert_allclose(
    game.values(jnp.asarray(coalitions)), logits_fn(shown)[:, LABEL], rtol=1e-6
  )


def test_superpixels_and_pixels_that_stay(picture):
  players = np.full((8, 8), -1)
  players[:2], players[2:5, 3:] = 0, 1
  game = interactions.image_game(
    logits_fn, picture, LABEL, players=players, reward="logit", fill="black"
  )
  assert game.num_players == 2
  shown = np.where((players == 0)[..., None], 0.0, picture)
  np.testing.assert_allclose(
    game.values(jnp.array([[False, True]])), logits_fn(shown[None])[:, LABEL], rtol=1e-6
  )


LEARNED = np.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3)  # a baseline for every pixel


@pytest.mark.parametrize(
  ("fill", "expected"),
  [
    (0.25, lambda x: np.full_like(x, 0.25)),
    ("black", np.zeros_like),
    ("mean", lambda x: np.broadcast_to(x.mean((0, 1)), x.shape)),
    (np.array([0.1, 0.2, 0.3]), lambda x: np.broadcast_to([0.1, 0.2, 0.3], x.shape)),
    (LEARNED, lambda x: LEARNED),
  ],
)
def test_fills(picture, fill, expected):
  np.testing.assert_allclose(
    interactions.fill_image(picture, fill), expected(np.asarray(picture)), rtol=1e-5
  )


def test_blur_keeps_flat_pictures_and_smooths_others(picture):
  flat = jnp.full((8, 6, 3), 0.4)
  np.testing.assert_allclose(interactions.fill_image(flat, "blur"), flat, rtol=1e-5)
  blurred = interactions.fill_image(picture, "blur", blur_sigma=2.0)
  assert blurred.std() < 0.5 * picture.std()
  kernel = np.exp(-((np.arange(8) - 3) ** 2) / 8)
  column = np.exp(-((np.arange(8) - 5) ** 2) / 8)
  weights = np.outer(kernel / kernel.sum(), column / column.sum())
  expected = (weights[..., None] * np.asarray(picture)).sum((0, 1))
  np.testing.assert_allclose(blurred[3, 5], expected, rtol=1e-5)


def test_rewards_by_hand():
  logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))  # p = 1/8, 2/8, 5/8
  label = jnp.array(2)
  np.testing.assert_allclose(_game.log_odds(logits, label), np.log(5 / 3), rtol=1e-6)
  np.testing.assert_allclose(
    interactions.REWARDS["normal"](logits, label), np.log(5 / 8), rtol=1e-6
  )
  np.testing.assert_allclose(interactions.REWARDS["logit"](logits, label), np.log(5), rtol=1e-6)
  # No cancellation where p rounds to 1.
  sure = jnp.array([[60.0, 0.0]])
  np.testing.assert_allclose(_game.log_odds(sure, jnp.array(0)), 60.0, rtol=1e-6)


@pytest.mark.parametrize("reward", sorted(interactions.REWARDS))
def test_the_full_coalition_is_the_picture(picture, reward):
  game = interactions.image_game(logits_fn, picture, LABEL, grid=4, reward=reward)
  whole = game.values(jnp.ones((1, 16), bool))
  expected = interactions.REWARDS[reward](logits_fn(picture[None]), jnp.array(LABEL))
  np.testing.assert_allclose(whole, expected, rtol=1e-6)


def test_pictures_and_parameters_share_one_program(picture):
  def apply(params, images):
    return logits_fn(images) * params

  traces = []

  @jax.jit
  def evaluate(game, coalitions):
    traces.append(1)
    return game.values(coalitions)

  coalitions = jnp.ones((2, 16), bool)
  for scale in (1.0, 2.0):
    network = jax.tree_util.Partial(apply, jnp.float32(scale))
    for shift in (0.0, 0.1):
      game = interactions.image_game(network, picture * (1 - shift), LABEL, grid=4, reward="logit")
      expected = scale * logits_fn((picture * (1 - shift))[None])[:, LABEL]
      np.testing.assert_allclose(evaluate(game, coalitions), np.repeat(expected, 2), atol=1e-5)
  assert len(traces) == 1


def test_tokens_are_replaced_and_some_stay():
  table = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)

  def network(tokens):
    return jnp.tanh(table[tokens].sum(1))

  tokens = jnp.array([7, 1, 4, 8])
  players = np.array([-1, 0, 1, 1])
  game = interactions.token_game(network, tokens, 2, fill_token=0, players=players, reward="logit")
  expected = network(jnp.array([[7, 1, 0, 0], [7, 0, 4, 8]]))[:, 2]
  found = game.values(jnp.array([[True, False], [False, True]]))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert interactions.token_game(network, tokens, 2, fill_token=0).num_players == 4


def test_an_image_game_feeds_every_estimator(key, picture):
  game = interactions.image_game(logits_fn, picture, LABEL, grid=3)
  truth = _exact.multi_order(game)
  found = interactions.multi_order(
    key, game, orders=(0, 3, 7), pairs=np.array([[0, 1], [4, 8]]), num_contexts=100
  )
  expected = truth[np.array([0, 3, 7])][:, [0, 4], [1, 8]]
  assert np.all(np.abs(found.mean - expected) <= 4 * found.stderr + 1e-4)


def test_one_and_eight_devices_agree(key, picture):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  game = interactions.image_game(logits_fn, picture, LABEL, grid=4)
  spread = interactions.Game(game.num_players, game.value_fn, game.args, sharding)
  run = functools.partial(
    interactions.multi_order,
    key,
    orders=(3, 8),
    pairs=np.array([[0, 1], [2, 9]]),
    num_contexts=8,
    chunk_size=32,
  )
  np.testing.assert_allclose(run(spread).differences, run(game).differences, atol=1e-5)
  rows = jax.random.bernoulli(key, 0.5, (5, 16))  # no whole row per device
  np.testing.assert_allclose(jax.jit(spread.values)(rows), game.values(rows), atol=1e-5)


@pytest.mark.parametrize("reward", sorted(interactions.REWARDS))
def test_a_label_that_is_no_class_gives_nan(picture, reward):
  coalitions = jnp.ones((1, 4), bool)
  for label in (-1, 4):
    made = interactions.image_game(logits_fn, picture, label, grid=2, reward=reward)
    assert jnp.isnan(made.values(coalitions)).all()


def test_errors_say_what_to_do(picture):
  outside = interactions.image_game(lambda x: np.asarray(x).mean((1, 2)), picture, LABEL, grid=2)
  with pytest.raises(ValueError, match="game: logits_fn must be made of JAX operations"):
    interactions.strongest_player(outside)
  with pytest.raises(ValueError, match="either grid"):
    interactions.image_game(logits_fn, picture, LABEL)
  with pytest.raises(ValueError, match=r"\[1, 8\]"):
    interactions.image_game(logits_fn, picture, LABEL, grid=9)
  with pytest.raises(ValueError, match=r"missing \[1\]"):
    interactions.image_game(
      logits_fn, picture, LABEL, players=np.full((8, 8), 2) * np.eye(8, dtype=int)
    )
  with pytest.raises(ValueError, match="Did you mean 'modified'"):
    interactions.feature_game(
      logits_fn,
      picture,
      LABEL,
      _game.grid_labels(8, 8, grid=2)[..., None],
      num_players=4,
      reward="modifed",
      fill=picture,
    )
