# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import keys
from mixboost_jax.keys import Stream


def raw(key):
  return np.asarray(jax.random.key_data(key))


def test_example_keys_depend_on_identity_only():
  root = keys.root_key(5)
  together = keys.example_keys(root, Stream.MASK, jnp.array([7, 3, 11]), epoch=2)
  alone = keys.example_keys(root, Stream.MASK, jnp.array([3]), epoch=2)
  np.testing.assert_array_equal(raw(together[1]), raw(alone[0]))


def test_streams_epochs_ids_and_seeds_are_all_different():
  seen = {
    raw(
      keys.example_keys(keys.root_key(seed), stream, jnp.array([example]), epoch=epoch)[0]
    ).tobytes()
    for seed in (0, 1)
    for stream in Stream
    for epoch in (0, 1, 2)
    for example in (0, 1, 2)
  }
  assert len(seen) == 2 * len(Stream) * 3 * 3


def test_stream_numbers_are_frozen():
  names = "INIT ORDER AUGMENT MASK DROPOUT EVALUATE CORRUPT ATTACK DEFEND INTERACT DATA"
  expected = names.split()
  assert [stream.name for stream in sorted(Stream)][: len(expected)] == expected
  assert [int(stream) for stream in sorted(Stream)] == list(range(len(Stream)))


def test_per_example_accepts_one_key_or_one_each(key):
  one = keys.per_example(key, 4)
  np.testing.assert_array_equal(raw(keys.per_example(key, 2)), raw(one[:2]))
  np.testing.assert_array_equal(raw(keys.per_example(one, 4)), raw(one))
  with pytest.raises(ValueError, match="expected one key or 3 keys"):
    keys.per_example(one, 3)


def test_for_batch_is_its_own_draw(key):
  each = keys.per_example(key, 4)
  assert raw(keys.for_batch(each)).tobytes() not in {raw(k).tobytes() for k in each}
  np.testing.assert_array_equal(raw(keys.for_batch(each)), raw(keys.for_batch(each[:1])))


def test_split_each_unpacks_into_named_keys(key):
  each = keys.per_example(key, 5)
  first, second = keys.split_each(each, 2)
  assert first.shape == second.shape == (5,)
  expected = jax.random.split(each[3], 2)
  np.testing.assert_array_equal(raw(first[3]), raw(expected[0]))
  np.testing.assert_array_equal(raw(second[3]), raw(expected[1]))
