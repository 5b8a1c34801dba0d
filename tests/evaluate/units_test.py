# SPDX-License-Identifier: Apache-2.0
"""Single kinds of units against what they should be, worked out in another way."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mixboost_jax import attacks, corruptions, evaluate, keys
from mixboost_jax.data import pictures, prepare
from mixboost_jax.evaluate import _attacks, _corruption, _films, _ood, _pictures, _session
from mixboost_jax.evaluate._session import Scorer, Session, tag_of
from mixboost_jax.runtime import mesh as mesh_lib


@pytest.fixture
def session(linear_fn, easy):
  apply_fn, variables = evaluate.open_up(linear_fn, (16, 8, 8, 3))
  mesh = mesh_lib.create(devices=jax.devices()[:2])
  scorer = Scorer(apply_fn, batch_size=16, mesh=mesh)
  examples = evaluate.from_dataset(easy, split="test")
  return Session(scorer, scorer.placed(variables), examples, {})


def unit_of(word):
  return evaluate.expand(word)[0]


def floats(part):
  return jnp.asarray(part.images.astype(np.float32) * np.float32(1 / 255))


def test_corrupted_pictures_are_those_of_the_package(session, linear_fn):
  unit, part = unit_of("c:contrast:4"), session.part(0, 24)
  found = _corruption.corruption(session, unit, 0, 24)
  each = keys.example_keys(
    keys.root_key(0), keys.Stream.CORRUPT, jnp.asarray(part.ids), epoch=tag_of(unit)
  )
  changed = corruptions.corrupt(each, floats(part), name="contrast", severity=4)
  right = np.asarray(linear_fn(changed)).argmax(-1) == part.labels
  np.testing.assert_array_equal(found["correct"], right)
  before = dict(_session._DRAWINGS)
  _corruption.prepare(session, unit, 16)
  _corruption.corruption(dataclasses.replace(session, programs={}), unit, 24, 40)
  assert before == _session._DRAWINGS
  _corruption.prepare(session, unit, 8)
  assert len(_session._DRAWINGS) == len(before) + 1


def test_films_flip_when_predictions_do(session, linear_fn):
  unit, part = unit_of("p:brightness"), session.part(3, 12)
  found = _films.sequence(session, unit, 3, 12)
  for i, image in enumerate(floats(part)):
    film = corruptions.perturb_sequence(jax.random.key(0), image, name="brightness")
    best = np.asarray(linear_fn(film)).argmax(-1)
    assert found["flip_rate"][i] == pytest.approx((best[1:] != best[:-1]).mean(), abs=1e-6)
  assert np.isfinite(found["top5_distance"]).all()


def test_pgd_stays_in_its_ball_and_lowers_the_accuracy(session):
  unit = unit_of("pgd-10")
  attacked = _attacks.attack(session, unit, 0, 32)["correct"]
  clean = _pictures.pictures(session, unit_of("clean"), 0, 32)["correct"]
  assert attacked.mean() < clean.mean()
  assert not (attacked > clean).any()  # the linear network admits no lucky attack


def test_an_attack_that_leaves_its_ball_is_caught(session, monkeypatch):
  monkeypatch.setattr(_attacks.attacks, "pgd", lambda key, fn, images, labels, **_: images + 0.5)
  monkeypatch.setattr(_attacks.attacks, "project", lambda images, *_, **__: images)
  with pytest.raises(RuntimeError, match=r"left its linf ball of radius 0\.0078"):
    _attacks.attack(session, unit_of("pgd"), 0, 16)
  assert _attacks.ATTACKS["pgd"]["epsilon"] == 2 / 255

  def outside(session, spec):
    return lambda each, images, labels, *, epsilon: types.SimpleNamespace(images=images + 0.5)

  monkeypatch.setattr(_attacks, "_autoattack_program", outside)
  with pytest.raises(RuntimeError, match="autoattack left its linf ball of radius"):
    _attacks.autoattack(session, unit_of("autoattack"), 0, 16)


def test_autoattack_of_a_linear_network_is_exact(session, linear_weights, monkeypatch):
  cheap = {
    "norm": "linf",
    "epsilon": 8 / 255,
    "version": ("apgd-ce",),
    "budget": attacks.Budget(num_steps=10),
  }
  monkeypatch.setitem(_attacks.AUTOATTACKS, "autoattack", cheap)
  found = _attacks.autoattack(session, unit_of("autoattack"), 0, 32)
  part = session.part(0, 32)
  logits = np.asarray((floats(part) - 0.5).reshape(32, -1) @ linear_weights)
  weights = np.asarray(linear_weights)
  # Robust against class k if the margin exceeds epsilon |w_y - w_k|_1 (the box only helps).
  own = logits[np.arange(32), part.labels][:, None] - logits
  reach = 8 / 255 * np.abs(weights[:, part.labels].T[:, None] - weights.T[None]).sum(-1)
  others = np.arange(logits.shape[1])[None] != part.labels[:, None]
  surely = np.where(others, own > reach, True).all(axis=1)
  assert (found["correct"] >= surely).all()
  assert ((found["broken_by"] < 0) == (found["correct"] > 0))[logits.argmax(1) == part.labels].all()


@pytest.mark.parametrize("name", _ood.SYNTHETIC)
def test_synthetic_foreign_pictures(name):
  images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 3))
  ids = jnp.arange(6)
  drawn = _ood.draw_foreign(name, ids, images)
  assert drawn.shape == images.shape
  assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
  again = _ood.draw_foreign(name, ids[3:], images[3:])  # by identity, not by place in the batch
  np.testing.assert_array_equal(again, drawn[3:])
  assert not np.array_equal(drawn[0], drawn[1])
  if name == "shuffled_pixels":
    before, after = (np.sort(np.asarray(x).sum(-1).ravel()) for x in (images[0], drawn[0]))
    np.testing.assert_allclose(before, after, atol=3.1 / 255)


def test_foreign_pictures_from_a_folder(session, tmp_path):
  (tmp_path / "inner").mkdir()
  for i in range(5):
    Image.new("RGB", (20, 10), (50 * i, 0, 0)).save(tmp_path / "inner" / f"{i}.png")
  images = _ood.from_folder(str(tmp_path), image_shape=(8, 8, 3), limit=4)
  assert (images.shape, images.dtype) == ((4, 8, 8, 3), np.uint8)
  own = dataclasses.replace(session, foreign_sets={"mine": images})
  (unit,) = evaluate.expand("ood:mine", foreign_sets=("mine",))
  found = _ood.ood(own, unit, 1, 4)
  assert set(found) == {"confidence", "max_logit", "negative_energy"}
  assert all(len(values) == 3 for values in found.values())
  np.save(tmp_path / "x.npy", images)
  same = _ood.from_folder(str(tmp_path / "x.npy"), image_shape=(8, 8, 3), limit=9)
  np.testing.assert_array_equal(same, images)
  with pytest.raises(ValueError, match="no picture files"):
    _ood.from_folder(str(tmp_path / "nothing"), image_shape=(8, 8, 3), limit=4)
  with pytest.raises(ValueError, match="expected uint8"):
    _ood.from_folder(str(tmp_path / "x.npy"), image_shape=(9, 9, 3), limit=4)


def test_foreign_pictures_from_prepared_records(tmp_path):
  folder = tmp_path / "dots" / "1.0.0"
  folder.mkdir(parents=True)
  raw = [pictures.encode_png(np.full((12, 16, 1), 40 * i, np.uint8)) for i in range(5)]
  prepare.write_records(
    folder,
    {"train": [prepare.Example(f"{i}", x, 0) for i, x in enumerate(raw)]},
    name="dots",
    version="1.0.0",
    class_names=["a"],
    image_shape=(None, None, 1),
    description="",
  )
  (images,) = _ood.read_sets([str(folder)], image_shape=(8, 8, 3), limit=4).values()
  assert images.shape == (4, 8, 8, 3)
  assert images[:, 3, 3].tolist() == [[40 * i] * 3 for i in range(4)]
  with pytest.raises(ValueError, match="got 'dots', which is also an earlier folder"):
    _ood.read_sets([str(folder), str(folder)], image_shape=(8, 8, 3), limit=4)
  with pytest.raises(ValueError, match="expected square known pictures"):
    _ood.from_folder(str(folder), image_shape=(8, 9, 3), limit=4)


def test_temperature_is_fitted_on_other_examples(session):
  sharp = dataclasses.replace(session, held_out=None)
  found = _pictures.temperature(sharp, unit_of("temperature"), 0, 90)
  assert len(np.unique(found["temperature"])) == 2
  plain = _pictures.pictures(session, unit_of("clean"), 0, 90)
  np.testing.assert_array_equal(found["correct"], plain["correct"])
  assert found["nll"].mean() < plain["nll"].mean()
  held_out = dataclasses.replace(session, held_out=session.part(0, 45))
  assert (
    len(np.unique(_pictures.temperature(held_out, unit_of("temperature"), 45, 90)["temperature"]))
    == 1
  )


def test_pieces_of_a_unit_share_its_program(session, monkeypatch):
  built = []
  original = _attacks._attack_program
  monkeypatch.setattr(_attacks, "_attack_program", lambda *a: built.append(1) or original(*a))
  unit = unit_of("pgd")
  _attacks.attack(session, unit, 0, 16)
  _attacks.attack(session, unit, 16, 32)
  assert len(built) == 1


def test_the_oldest_drawings_are_forgotten(session, monkeypatch):
  monkeypatch.setattr(_session, "_DRAWINGS", {})
  monkeypatch.setattr(_session, "MAX_DRAWINGS", 2)
  asked = [session.drawing(name, lambda name=name: [name]) for name in "abcb"]
  assert asked[3] is asked[1]
  assert session.drawing("a", lambda: "anew") == "anew"
