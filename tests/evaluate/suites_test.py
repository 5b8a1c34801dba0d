# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import data, evaluate
from mixboost_jax.data import loading, shapes
from mixboost_jax.evaluate import _pictures


@pytest.fixture(scope="module")
def shapes_test():
  ids = np.arange(loading.SHAPES_TEST_IDS, loading.SHAPES_TEST_IDS + 60, dtype=np.int32)
  split = shapes.generate(ids, texture_agreement=0.9)
  names = shapes.CLASS_NAMES
  return data.Dataset("shapes", "Shapes", "procedural", names, split, None, split, (0.5,) * 3)


def test_shapes_suite_scores_the_same_objects_with_other_textures(shapes_test):
  seen = []
  whole = evaluate.from_dataset(shapes_test, split="test")
  for unit in evaluate.expand("shapes"):
    derived = _pictures.VARIANTS[unit.family](whole)
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
  assert sum(name.startswith("reliability/") for name in results.curves) == 4
  worst = {
    name: points[0]["error"] for name, points in results.curves.items() if "classes/" in name
  }
  assert len(worst) == 4 * 10
  assert sorted(worst.values()) == 4 * [0.0] + 36 * [100.0]


@pytest.mark.parametrize("suite", evaluate.SUITES)
@pytest.mark.parametrize("large", [False, True])
def test_named_suites_expand(suite, large):
  units = evaluate.expand(suite, large=large)
  labels = [unit.label for unit in units]
  assert len(set(labels)) == len(units) > 0
  assert evaluate.suite_problem(suite) is None
  assert units[0].family == "clean"


def test_standard_is_the_table_of_the_paper():
  units = evaluate.expand("standard")
  counts = {}
  for unit in units:
    counts[unit.family] = counts.get(unit.family, 0) + 1
  assert counts == {"clean": 1, "c": 75, "c_bar": 50, "p": 10, "pgd": 1}


def test_words():
  labels = [unit.label for unit in evaluate.expand("clean, c:fog,c:contrast:3,c:*:5,clean,pgd")]
  assert labels[:7] == ["clean", *(f"c:fog:{s}" for s in range(1, 6)), "c:contrast:3"]
  assert len(labels) == 7 + 14 + 1  # fog at severity 5 is there already
  assert labels[-1] == "pgd"
  (own,) = evaluate.expand("ood:mine", foreign_sets=("mine",))
  assert (own.kind, own.member) == ("ood", "mine")


@pytest.mark.parametrize(
  ("suite", "message"),
  [
    ("claen", "Did you mean 'clean'"),
    ("clean,c:fgo", "Did you mean 'fog'"),
    ("c:ripple:3", "'ripple' is a member of another word; write 'c_bar:ripple'"),
    ("c:fog:6", "severity must be 1 to 5"),
    ("p:tilt:3", "too many parts"),
    ("pgd:3", "too many parts"),
    ("", "unknown name ''"),
  ],
)
def test_wrong_suites(suite, message):
  with pytest.raises(ValueError, match=message):
    evaluate.expand(suite)
  assert evaluate.suite_problem(suite) is not None


def test_lists_of_large_pictures_are_no_problem():
  assert evaluate.suite_problem("c_bar:plasma_noise") is None
  assert evaluate.suite_problem("clean,ood:anything") is None
  assert len(evaluate.expand("c_bar", large=True)) == 50


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_occlusion_paints_20_of_64_cells_and_is_the_same_each_time(kind):
  images = np.zeros((5, 32, 40, 3), kind)
  whole = evaluate.from_dataset((images, np.arange(5)), split="test")
  first, again = (_pictures.VARIANTS["occluded"](whole) for _ in range(2))
  assert first.images.dtype == kind
  np.testing.assert_array_equal(first.images, again.images)
  painted = (first.images > 0).mean(axis=(1, 2, 3))
  # int(0.7 * 64) = 44 cells stay; each cell is 4 x 5 pixels.
  np.testing.assert_allclose(painted, 20 / 64)
  assert not np.array_equal(first.images[0], first.images[1])
