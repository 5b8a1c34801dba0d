# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from mixboost_jax.train import loop


def test_means_and_last_values():
  rows = loop.Window()
  rows.add(1, {"loss": np.float32(1.0), "learning_rate": np.float32(0.5)})
  rows.add(3, {"loss": np.array([2.0, 6.0]), "learning_rate": np.array([0.4, 0.3])})
  assert rows.drain() == pytest.approx({"loss": 3.0, "learning_rate": 0.3})
  assert rows.rows == {}


def test_goes_on_after_a_restart():
  whole, first = loop.Window(), loop.Window()
  for step, value in enumerate([0.1, 0.7, 0.4, 0.9], 1):
    whole.add(step, {"loss": np.float32(value)})
    if step <= 2:
      first.add(step, {"loss": np.float32(value)})
  second = loop.Window(first.rows)
  for step, value in ((3, 0.4), (4, 0.9)):
    second.add(step, {"loss": np.float32(value)})
  assert second.drain() == whole.drain()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_names_step_and_metric(bad):
  rows = loop.Window()
  with pytest.raises(loop.NonFiniteError, match=r"step 9: metric 'boost_entropy' is (nan|inf)"):
    rows.add(10, {"loss": np.ones(4), "boost_entropy": np.array([1.0, 1.0, bad, bad])})
  assert rows.rows == {}, "a bad call leaves nothing behind"
