# SPDX-License-Identifier: Apache-2.0
"""What `explain` says is replayed with Pillow and must give the picture that training saw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment, keys
from mixboost_jax.augment.steps import Op
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


def test_randaugment_account(key):
  account = augment.explain(key, {"name": "randaugment", "num_ops": 3}, shape=(32, 32))
  assert len(account) == 3
