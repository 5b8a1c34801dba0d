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
    "shapes-occluded",
    "shapes-neutral",
    "shapes-conflicting",
  ]
  for examples in seen[1:]:
    assert not np.array_equal(examples.images, seen[0].images)
  assert not np.array_equal(seen[2].images, seen[3].images)


def test_shapes_suite_reports_each_variant(shapes_test):
  def logits_fn(images):
    return images.mean(axis=(1, 2)) @ jnp.ones((3, 10)) + jnp.arange(10)[None] * 1.0

  results = evaluate.evaluate(logits_fn, shapes_test, "shapes")
  errors = {m.dataset: m for m in results.metrics if m.name == "error"}
  assert list(errors) == ["shapes", "shapes-occluded", "shapes-neutral", "shapes-conflicting"]
  # Always class 9: wrong for nine of the ten balanced classes.
  assert {m.value for m in errors.values()} == {90.0}
  assert {m.source for m in errors.values()} == {"procedural"}
  assert len(results.curves) == 4


def test_names_of_units_are_unique():
  for units in evaluate.SUITES.values():
    assert len({unit.name for unit in units}) == len(units)


def test_suite_problem():
  assert evaluate.suite_problem("shapes") is None
  assert "choose one of clean, occluded, shapes" in evaluate.suite_problem("standard")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_occlusion_paints_20_of_64_cells_and_is_the_same_each_time(kind):
  images = np.zeros((5, 32, 40, 3), kind)
  whole = evaluate.from_dataset((images, np.arange(5)), split="test")
  (unit,) = (u for u in evaluate.SUITES["occluded"] if u.name == "occluded")
  first, again = unit.derive(whole), unit.derive(whole)
  assert first.images.dtype == kind
  np.testing.assert_array_equal(first.images, again.images)
  painted = (first.images > 0).mean(axis=(1, 2, 3))
  # int(0.7 * 64) = 44 cells stay; each cell is 4 x 5 pixels.
  np.testing.assert_allclose(painted, 20 / 64)
  assert not np.array_equal(first.images[0], first.images[1])
