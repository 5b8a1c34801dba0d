# SPDX-License-Identifier: Apache-2.0
"""What `explain` says is replayed with Pillow and must give the picture that training saw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment, keys
from mixboost_jax.augment._steps import Op
from tests.augment import pil_reference

PIXELS = pil_reference.pictures(16, 16)[0]


def replay(pixels, account):
  for entry in account:
    if entry["op"] == "flip":
      pixels = pixels[:, ::-1] if entry["applied"] else pixels
    elif entry["op"] == "crop":
      padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
      top, left = 2 + entry["down"], 2 + entry["right"]
      pixels = padded[top : top + 16, left : left + 16]
    elif entry["op"] == "cutout":
      pixels = pixels.copy()
      half = entry["length"] // 2
      row, column = entry["row"], entry["column"]
      rows = slice(max(row - half, 0), row + half)
      pixels[rows, max(column - half, 0) : column + half] = 0
    else:
      op = Op[entry["op"].upper()]
      pixels = pil_reference.apply(np.ascontiguousarray(pixels), op, entry.get("magnitude", 0))
  return pixels


POLICY = {
  "name": "compose",
  "steps": (
    {"name": "random_flip"},
    {"name": "random_crop", "padding": 2},
    {
      "name": "choice",
      "options": (
        {"name": "trivial_augment_wide"},
        {"name": "with_probability", "p": 0.5, "policy": {"name": "autoaugment"}},
      ),
    },
    {"name": "cutout", "length": 5, "fill": 0.0},
  ),
}


def test_account_replayed_gives_the_picture():
  root = keys.root_key(3)
  ids = jnp.arange(12)
  each = keys.example_keys(root, keys.Stream.AUGMENT, ids, epoch=2)
  images = jnp.broadcast_to(jnp.asarray(PIXELS, jnp.float32) / 255, (12, 16, 16, 3))
  assert augment.policy_problem(POLICY) is None
  out, _ = jax.jit(augment.build(POLICY))(each, images, jnp.ones((12, 1)))
  for i in range(12):
    account = augment.explain(each[i], POLICY, shape=(16, 16))
    np.testing.assert_array_equal(
      replay(PIXELS, account), np.rint(np.asarray(out[i]) * 255), err_msg=str(account)
    )


def test_accounts_of_mixing_policies_read_well(key):
  account = augment.explain(key, {"name": "augmix"}, shape=(32, 32))
  assert account[0]["op"] == "mix"
  assert [entry["op"] for entry in account[1:]] == ["chain"] * 3
  assert sum(entry["weight"] for entry in account[1:]) == pytest.approx(1, abs=1e-5)
  mixing = jnp.zeros((5, 36, 36, 3), jnp.uint8)
  account = augment.explain(key, {"name": "pixmix"}, shape=(32, 32), mixing_images=mixing)
  assert account[0]["op"] == "start"
  for entry in account[1:]:
    assert entry["op"] in ("add", "multiply")
    assert ("original" in entry) != ("mixing_picture" in entry)
  assert "depends_on" in augment.explain(key, {"name": "mixup"}, shape=(32, 32))[0]
  assert augment.explain(key, {"name": "none"}, shape=(32, 32)) == []


PIXMIX = {"name": "pixmix"}
PAIRS = {
  "mixup": {"per": "example", "partner": "permutation"},
  "cutmix": {"per": "example"},
  "sample_pairing": {"weight": 0.25},
  "smote": {"num_neighbors": 2},
}


@pytest.mark.parametrize("name", sorted(augment.MIXES_LABELS))
def test_named_partner_and_weight_give_the_picture(name):
  """Behind a member that changes the pictures, so that neighbours are sought among those."""
  rng = np.random.default_rng(1)
  pictures, labels = (
    jnp.asarray(rng.uniform(size=(6, 4, 6, 3)), jnp.float32),
    jnp.eye(2)[np.arange(6) % 2],
  )
  mix = {"name": name, **PAIRS[name]}
  policy = {"name": "compose", "steps": ({"name": "random_flip"}, mix)}
  each = jax.random.split(jax.random.key(2), 6)
  batch = (pictures, labels)
  out, _ = augment.build(policy)(each, *batch)
  flips = keys.split_each(each, 2)[0]
  before = np.asarray(augment.random_flip(flips, pictures))
  for row in range(6):
    _, entry = augment.explain(each, policy, shape=(4, 6), row=row, batch=batch)
    want = before[row].copy()
    if entry.get("applied", True):
      other = before[entry["partner_row"]]
      if name == "cutmix":
        box = slice(*entry["rows"]), slice(*entry["columns"])
        want[box] = other[box]
      else:
        want = entry["own_weight"] * want + (1 - entry["own_weight"]) * other
    np.testing.assert_allclose(out[row], want, atol=2e-6, err_msg=str(entry))


def test_a_crop_inside_a_composite_changes_the_size_of_what_follows(key):
  crop = {"name": "compose", "steps": ({"name": "random_resized_crop", "size": 4},)}
  hole = {"name": "cutout", "length": 2, "fill": 0.0}
  policy = {"name": "compose", "steps": (crop, hole)}
  each = jax.random.split(key, 8)
  out, _ = augment.build(policy)(each, jnp.ones((8, 16, 16, 3)), jnp.ones((8, 1)))
  for i in range(8):
    entry = augment.explain(each[i], policy, shape=(16, 16))[-1]
    row, column = entry["row"], entry["column"]
    want = np.ones((4, 4))
    want[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = 0
    np.testing.assert_array_equal(out[i, :, :, 0], want)


def test_shared_decisions_are_told_with_the_batch():
  each = jax.random.split(jax.random.key(0), 3)
  batch = (jnp.zeros((3, 4, 4, 3)), jnp.ones((3, 1)))
  cutouts = tuple({"name": "cutout", "length": length} for length in (2, 4, 6))
  policy = {"name": "choice", "options": cutouts, "per": "batch"}
  out, _ = augment.build(policy)(each, *batch)
  told = [augment.explain(each, policy, shape=(4, 4), row=r, batch=batch)[0] for r in range(3)]
  assert len({entry["length"] for entry in told}) == 1
  half = told[0]["length"] // 2
  for row, entry in enumerate(told):
    inside = np.zeros((4, 4), bool)
    top, left = entry["row"] - half, entry["column"] - half
    inside[max(top, 0) : entry["row"] + half, max(left, 0) : entry["column"] + half] = True
    np.testing.assert_array_equal(np.asarray(out[row, :, :, 0]) > 0, inside)
  assert "depends_on" in augment.explain(each[0], policy, shape=(4, 4))[0]


@pytest.mark.parametrize(
  ("policy", "entry"),
  [
    ({"name": "color_jitter", "hue": 0.1}, "brightness"),
    ({"name": "gaussian_blur", "radius": 2}, "gaussian_blur"),
    ({"name": "gaussian_noise", "sigma": 0.1}, "gaussian_noise"),
    ({"name": "random_grayscale", "prob": 1.0}, "grayscale"),
    ({"name": "random_resized_crop", "size": 8}, "resized_crop"),
  ],
)
def test_photographic_accounts(key, policy, entry):
  account = augment.explain(key, policy, shape=(16, 16))
  assert entry in [found["op"] for found in account]


@pytest.mark.parametrize(
  ("policy", "problem"), [({"name": "cutot"}, "Did you mean"), (PIXMIX, "needs mixing")]
)
def test_what_cannot_be_built_is_not_explained(key, policy, problem):
  with pytest.raises(ValueError, match=problem):
    augment.explain(key, policy, shape=(8, 8))


def test_without_an_account_the_keywords_are_told(key):
  table = {"dim": augment.Entry(lambda key, images, *, by=0.5, at=1: images * by)}
  told = augment.explain(key, {"name": "dim", "by": 0.2}, shape=(8, 8), table=table)
  assert told == [{"op": "dim", "by": 0.2, "at": 1}]


@pytest.mark.parametrize("name", sorted(augment.AUGMENTATIONS))
def test_every_augmentation_can_be_explained(name):
  """With every keyword at its default, which is read from the signature."""
  entry = augment.AUGMENTATIONS[name]
  examples = entry.examples(8) if entry.examples else {name: {}}
  mixing = jnp.zeros((2, 9, 9, 3), jnp.uint8)
  batch = (jnp.ones((3, 8, 8, 3)), jnp.ones((3, 1)))
  each = jax.random.split(jax.random.key(0), 3)
  for keywords in examples.values():
    policy = {"name": name, **keywords}
    account = augment.explain(each, policy, shape=(8, 8), row=1, batch=batch, mixing_images=mixing)
    assert all("op" in told for told in account)


def test_randaugment_account(key):
  account = augment.explain(key, {"name": "randaugment", "num_ops": 3}, shape=(32, 32))
  assert len(account) == 3
