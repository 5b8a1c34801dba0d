# SPDX-License-Identifier: Apache-2.0
"""AND and OR patterns against planted ones, a linear program, and Harsanyi dividends."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mixboost_jax import interactions
from mixboost_jax.interactions import _and_or, _exact


def planted(n, patterns, base=0.3):
  """Rewards of all coalitions from (is_or, players, effect), by looking at every coalition."""
  table = np.full(2**n, base)
  for code in range(2**n):
    present = {i for i in range(n) if code >> i & 1}
    for is_or, players, effect in patterns:
      holds = present & set(players) if is_or else set(players) <= present
      table[code] += effect * bool(holds)
  return table


PATTERNS = [(0, (0, 2, 3), 2.0), (1, (1, 4, 5), -1.5), (0, (1, 2), 1.0), (1, (0, 3, 4, 5), 0.7),
            (0, (5,), 0.4)]  # fmt: skip


def l1(found):
  return np.abs(found.and_effects[:, 1:]).sum(1) + np.abs(found.or_effects).sum(1)


def test_planted_patterns_are_found():
  tables = np.stack([planted(6, PATTERNS), planted(6, PATTERNS[:2])])
  found = interactions.and_or(tables, noise_share=0.0)
  # The planted split is one of many, so the sparsest one has no larger norm.
  planted_norms = [sum(abs(effect) for *_, effect in some) for some in (PATTERNS, PATTERNS[:2])]
  assert np.all(l1(found) <= 1.005 * np.array(planted_norms))
  truth = {(is_or, sum(1 << i for i in players)): effect for is_or, players, effect in PATTERNS}
  strongest = interactions.pattern_rows(found, picture=0, num=2)
  assert [(one["is_or"], one["players"]) for one in strongest] == list(truth)[:2]
  rows = interactions.pattern_rows(found, picture=1, num=3)
  for one in rows[:2]:
    assert one["effect"] == pytest.approx(truth[one["is_or"], one["players"]], abs=0.02)
    assert one["size"] == one["players"].bit_count()
  assert abs(rows[2]["effect"]) < 0.02
  np.testing.assert_allclose(interactions.reconstruct(found), tables, atol=1e-9)
  few = [interactions.faithfulness(found, tables, num_patterns=k)[1] for k in (1, 2)]
  assert few[1] < 0.05 < 0.2 < few[0]


def test_harsanyi_dividends_when_the_or_part_is_off():
  table = np.random.default_rng(0).normal(size=2**5)
  found = interactions.and_or(table[None], with_or=False, noise_share=0.0)
  game = interactions.table_game(jnp.asarray(table, jnp.float32))
  np.testing.assert_allclose(found.and_effects[0], _exact.harsanyi(game), atol=1e-4)
  assert not found.or_effects.any()
  np.testing.assert_allclose(interactions.reconstruct(found)[0], table, atol=1e-12)


@pytest.mark.parametrize(("with_or", "share"), [(True, 0.0), (True, 0.1), (False, 0.1)])
def test_the_split_is_that_of_the_linear_program(with_or, share):
  """min |M(h (v + q) + p)|_1 + |M R(h (v + q) - p)|_1 with |q| <= bound, all patterns but 0."""
  size = 8
  table = np.random.default_rng(1).normal(size=size)
  table -= table[0]
  bound = share * np.abs(table).max()
  M = np.array([[(-1.0) ** (s & ~t).bit_count() * (s & t == t) for t in range(size)]
                for s in range(size)])  # fmt: skip
  parts = [(0.5, 1.0, M[1:]), (0.5, -1.0, M[1:, ::-1])] if with_or else [(1.0, 0.0, M[1:])]
  A = np.concatenate([np.hstack([sign * one, half * one]) for half, sign, one in parts])
  c = np.concatenate([half * one @ table for half, _, one in parts])
  count, eye = len(c), np.eye(len(c))
  limits = [(None, None)] * size + [(0, 0)] + [(-bound, bound)] * (size - 1) + [(0, None)] * count
  best = scipy.optimize.linprog(
    np.concatenate([np.zeros(2 * size), np.ones(count)]),
    A_ub=np.vstack([np.hstack([A, -eye]), np.hstack([-A, -eye])]), b_ub=np.concatenate([-c, c]),
    bounds=limits,
  )  # fmt: skip
  found = interactions.and_or(table[None], with_or=with_or, noise_share=share)
  assert np.abs(found.noise).max() <= bound + 1e-6
  assert l1(found)[0] == pytest.approx(best.fun, rel=0.01)
  np.testing.assert_allclose(interactions.reconstruct(found)[0], table + found.noise[0], atol=1e-9)


def test_noise_of_the_rewards_is_not_explained():
  clean = planted(6, PATTERNS)
  table = clean + 0.01 * np.random.default_rng(0).uniform(-1, 1, 64) * (np.arange(64) > 0)
  plain, smooth = (interactions.and_or(table[None], noise_share=share) for share in (0.0, 0.01))
  assert l1(smooth)[0] < l1(plain)[0] - 0.1
  assert l1(smooth)[0] == pytest.approx(sum(abs(effect) for *_, effect in PATTERNS), rel=0.05)


def test_rows_of_the_error_fall_to_the_noise_and_have_bands():
  rng = np.random.default_rng(0)
  tables = np.stack([planted(5, [(1, (0, 1, 2), e), (0, (3, 4), 1.0)]) for e in (1.0, 2.0, 3.0)])
  tables += 0.001 * rng.normal(size=tables.shape)
  found = interactions.and_or(tables, noise_share=0.0)
  rows = interactions.faithfulness_rows(found, tables)
  assert [row["step"] for row in rows] == [1, 2, 5, 10, 20, 50, 64]
  by_count = {row["step"]: row for row in rows}
  assert (
    by_count[2]["error"] < 0.01 < 0.1 < by_count[2]["harsanyi"]
  )  # an OR of three is 7 dividends
  assert by_count[64]["harsanyi"] < 1e-9
  for row in rows:
    assert row["error_low"] <= row["error"] <= row["error_high"]
  alone = interactions.faithfulness_rows(interactions.and_or(tables[:1]), tables[:1])
  assert alone[0]["error_low"] is None


def test_cells_and_errors():
  shapes = {6: (2, 3), 9: (3, 3), 11: (1, 11), 12: (3, 4)}
  assert {n: interactions.rectangle(n) for n in shapes} == shapes
  labels = interactions.cell_labels(6, 8, shape=(2, 4))
  assert labels[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
  assert labels[3].tolist() == [4, 4, 5, 5, 6, 6, 7, 7]
  for size, message in ((6, "the 2\\*\\*n rewards"), (2**13, "1 to 12 players")):
    with pytest.raises(ValueError, match=message):
      interactions.and_or(np.zeros((1, size)))
  with pytest.raises(ValueError, match="noise_share in"):
    interactions.and_or(np.zeros((1, 8)), noise_share=1.0)
  assert _and_or.MAX_PLAYERS == 12
  for a, b in itertools.pairwise(_and_or.COUNTS):
    assert a < b
