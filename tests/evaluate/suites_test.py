# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import data, evaluate
from mixboost_jax.data import loading, shapes


@pytest.fixture(scope="module")
def shapes_test():
  ids = np.arange(loading.SHAPES_TEST_IDS, loading.SHAPES_TEST_IDS + 60, dtype=np.int32)
  split = shapes.generate(ids, texture_agreement=0.9)
  names = shapes.CLASS_NAMES
  return data.Dataset("shapes", "Shapes", "procedural", names, split, None, split, (0.5,) * 3)


def test_shapes_suite_scores_the_same_objects_with_other_textures(shapes_test):
  seen = []
  whole = evaluate.from_dataset(shapes_test, split="test")
  for unit in evaluate.SUITES["shapes"]:
    derived = unit.derive(whole)
    assert len(derived) == 60
    np.testing.assert_array_equal(derived.labels, shapes_test.test.labels)
    seen.append(derived)
  assert [examples.dataset for examples in seen] == [
    "shapes",
    "shapes-neutral",
    "shapes-conflicting",
  ]
  for examples in seen[1:]:
    assert not np.array_equal(examples.images, seen[0].images)
  assert not np.array_equal(seen[1].images, seen[2].images)


def test_shapes_suite_reports_each_variant(shapes_test):
  def logits_fn(images):
    return images.mean(axis=(1, 2)) @ jnp.ones((3, 10)) + jnp.arange(10)[None] * 1.0

  results = evaluate.evaluate(logits_fn, shapes_test, "shapes")
  errors = {m.dataset: m for m in results.metrics if m.name == "error"}
  assert list(errors) == ["shapes", "shapes-neutral", "shapes-conflicting"]
  # Always class 9: wrong for nine of the ten balanced classes.
  assert {m.value for m in errors.values()} == {90.0}
  assert {m.source for m in errors.values()} == {"procedural"}
  assert len(results.curves) == 3


def test_names_of_units_are_unique():
  for units in evaluate.SUITES.values():
    assert len({unit.name for unit in units}) == len(units)


def test_suite_problem():
  assert evaluate.suite_problem("shapes") is None
  assert "choose one of clean, shapes" in evaluate.suite_problem("standard")
