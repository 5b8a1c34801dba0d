# SPDX-License-Identifier: Apache-2.0
"""One entry is all that a new augmentation needs: everything else finds it there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mixboost_jax import augment, jobs, keys, schema, settings
from mixboost_jax.augment._options import number
from mixboost_jax.jobs import contact_sheet, prepared, show_augmentation

TINY = {
  "data.train_examples": 16,
  "data.test_examples": 8,
  "model.name": "tiny-cnn",
  "train.batch_size": 8,
  "train.epochs": 1.0,
}


def tint(key, images, mixing_images, *, share, low=0.25):
  """Mixes each picture with one colour of the mixing set; `share` lies in [low, 1]."""
  chosen = drawn(keys.per_example(key, len(images)), len(mixing_images))
  colours = jnp.mean(mixing_images[chosen] / 255, axis=(1, 2), keepdims=True)
  return share * images + (1 - share) * colours


def drawn(each, number):
  return jax.vmap(lambda k: jax.random.randint(k, (), 0, number))(each)


def told(scene, *, mixing_images, share, low):
  return [{"op": "tint", "picture": int(drawn(scene.own, len(mixing_images))[0]), "low": low}]


def swap(key, images, soft_labels, *, size):
  del key
  return images[::-1, :size, :size], soft_labels[::-1]


def told_swap(scene, *, size):
  pictures, _ = scene.batch()
  other = len(scene.each) - 1 - scene.row
  return [{"op": "swap", "partner_row": other, "mean": float(pictures[other].mean())}]


@pytest.fixture
def extended(monkeypatch):
  entries = {
    "tint": augment.Entry(
      tint,
      told,
      rules={"share": number(0, high=1)},
      examples=lambda side: {"a tint": {"share": side / 64}},
    ),
    "swap": augment.Entry(
      swap, told_swap, side="size", examples=lambda side: {"swapped": {"size": side}}
    ),
  }
  for name, entry in entries.items():
    monkeypatch.setitem(augment.AUGMENTATIONS, name, entry)
  yield
  schema.TAKES_PICTURES.discard("tint")


def config(policy):
  return base.override(base.get_config(), {**TINY, "augment.policy": policy})


@pytest.mark.parametrize(
  ("policy", "problem"),
  [
    ({"name": "tint"}, "also needs share"),
    ({"name": "tint", "share": 2.0}, "share: expected a number in"),
    ({"name": "tint", "share": 0.5, "lwo": 0.1}, "Did you mean 'low'"),
    ({"name": "tnit", "share": 0.5}, "Did you mean 'tint'"),
  ],
)
def test_configs_know_its_name_and_its_keywords(extended, policy, problem):
  (resolved,) = settings.resolve_runs(config({"name": "tint", "share": 0.5}), checks=jobs.CHECKS)
  assert resolved.augment.policy["name"] == "tint"
  with pytest.raises(ValueError, match=problem):
    settings.resolve_runs(config(policy), checks=jobs.CHECKS)


def test_the_size_of_the_mixing_set_is_read_with_it(extended):
  own = config({"name": "compose", "steps": ({"name": "tint", "share": 0.5},)})
  own.augment.num_mixing_images = 7
  (resolved,) = settings.resolve_runs(own, checks=jobs.CHECKS)
  assert resolved.augment.num_mixing_images == 7
  other = config({"name": "swap", "size": 4})
  other.augment.num_mixing_images = 7
  with pytest.raises(ValueError, match=r"augment\.num_mixing_images=7 is set but not read"):
    settings.resolve_runs(other, checks=jobs.CHECKS)


def test_it_is_built_and_explained_inside_a_composite(extended):
  mixing = jnp.arange(3, dtype=jnp.uint8)[:, None, None, None] * jnp.full(
    (3, 4, 4, 3), 100, "uint8"
  )
  images = jnp.linspace(0, 1, 4 * 6 * 6 * 3).reshape(4, 6, 6, 3)
  labels = jnp.eye(4)
  policy = {
    "name": "compose",
    "steps": (
      {"name": "tint", "share": 0.5},
      {"name": "swap", "size": 4},
      {"name": "cutout", "length": 2},
    ),
  }
  each = jax.random.split(jax.random.key(0), 4)
  with pytest.raises(ValueError, match="policy 'tint' needs mixing_images"):
    augment.build(policy)
  out, soft = augment.build(policy, mixing_images=mixing)(each, images, labels)
  np.testing.assert_array_equal(soft, labels[::-1])
  assert out.shape == (4, 4, 4, 3)
  colour, swapped, hole = augment.explain(
    each, policy, shape=(6, 6), row=1, batch=(images, labels), mixing_images=mixing
  )
  parts = keys.split_each(each, 3)
  tinted = tint(parts[0], images, mixing, share=0.5)
  assert colour == {"op": "tint", "picture": int(drawn(parts[0], 3)[1]), "low": 0.25}
  assert swapped == {"op": "swap", "partner_row": 2, "mean": float(tinted[2].mean())}
  row, column = hole["row"], hole["column"]
  want = np.array(tinted[2, :4, :4])
  want[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = 0.5
  np.testing.assert_array_equal(out[1], want)


def test_the_contact_sheet_shows_it(extended, monkeypatch):
  assert dict(contact_sheet.policies(32))["a tint"] == {"name": "tint", "share": 0.5}
  shown = {name: augment.AUGMENTATIONS[name] for name in ("tint", "swap")}
  monkeypatch.setattr(augment, "AUGMENTATIONS", shown)
  rows = contact_sheet.rows_of(np.ones((2, 8, 8, 3)), np.arange(2), seed=0)
  assert [title for title, _ in rows[:3]] == ["original", "a tint", "swapped"]
  assert rows[1][1].shape == (2, 8, 8, 3)
  assert not np.array_equal(rows[1][1], rows[0][1])


def test_training_gives_it_the_mixing_set_and_the_job_tells_of_it(extended, tmp_path, monkeypatch):
  made = augment.mixing_images
  monkeypatch.setattr(augment, "mixing_images", lambda key, _, *, size: made(key, 4, size=size))
  policy = {"name": "choice", "options": ({"name": "tint", "share": 0.5},)}
  chosen = settings.resolve(config(policy), checks=jobs.CHECKS)
  item = prepared.prepare(chosen, tmp_path)
  example = int(item.trainer.split.ids[0])
  seen = show_augmentation.look(item, epoch=0, example=example)
  assert [entry["op"] for entry in seen.account] == ["flip", "crop", "tint"]
  assert seen.views["augmented"].shape == seen.views["original"].shape


def test_a_new_mix_is_refused_where_mixes_are(extended, tmp_path):
  cfg = config({"name": "compose", "steps": ({"name": "swap", "size": 32},)})
  cfg = base.override(cfg, {"objective.jsd_weight": 1.0})
  with pytest.raises(ValueError, match=r"jsd_weight.*'swap' mixes examples"):
    prepared.prepare(settings.resolve(cfg, checks=jobs.CHECKS), tmp_path)
