# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from PIL import Image

from mixboost_jax import augment
from mixboost_jax.jobs import contact_sheet


def test_every_augmentation_is_shown():
  shown = dict(contact_sheet.policies(32))
  assert {policy["name"] for policy in shown.values()} == set(augment.AUGMENTATIONS)
  for policy in shown.values():
    assert augment.policy_problem(policy) is None
  assert shown["cutout"]["length"] == 16


def test_the_mixing_set_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(augment, "FAMILIES", {"dead_leaves": None})
  out = tmp_path / "sheet.png"
  assert contact_sheet.main([f"--out={out}", "--only=mixing", "--number=2", "--size=8"]) == 0
  with Image.open(out) as sheet:
    assert sheet.size == (contact_sheet._LABEL_WIDTH + 2 * 18, 18)


def test_tiles_are_where_they_belong():
  rows = [("black", np.zeros((2, 4, 4, 3))), ("white", np.ones((2, 4, 4, 3)))]
  sheet = np.asarray(contact_sheet.draw(rows, zoom=3))
  left = contact_sheet._LABEL_WIDTH
  assert sheet.shape == (2 * 14, left + 2 * 14, 3)
  assert not sheet[:12, left : left + 12].any()
  assert (sheet[14:26, left + 14 : left + 26] == 255).all()


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_pictures_are_read(tmp_path, kind):
  pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
  place = tmp_path / "pictures.npz"
  if kind == "npz":
    np.savez(place, images=pixels, labels=np.arange(6))
  else:
    place = tmp_path
    for i, p in enumerate(pixels):
      (tmp_path / f"class{i}").mkdir()
      Image.fromarray(p).save(tmp_path / f"class{i}" / "a.png")
  images, labels = contact_sheet.load(str(place), number=3, size=8)
  assert images.shape == (3, 8, 8, 3)
  assert len(labels) == 3
  if kind == "npz":
    np.testing.assert_array_equal(np.rint(images * 255), pixels[:3])


def test_missing_pictures_are_one_error_and_nothing_is_written(tmp_path, capsys):
  out = tmp_path / "sheet.png"
  assert contact_sheet.main([f"--out={out}", f"--images={tmp_path}"]) == 2
  assert "expected an .npz file or a folder" in capsys.readouterr().err
  assert not out.exists()


def test_the_sheet_is_written_whole(tmp_path, monkeypatch):
  monkeypatch.setattr(contact_sheet, "rows_of", lambda x, y, *, seed: [("original", x)])
  out = tmp_path / "sheet.png"
  assert contact_sheet.main([f"--out={out}", "--number=2", "--size=8"]) == 0
  with Image.open(out) as sheet:
    assert sheet.size == (contact_sheet._LABEL_WIDTH + 2 * 18, 18)
  assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
