# SPDX-License-Identifier: Apache-2.0
import pathlib

import numpy as np
import pytest
from PIL import Image

from mixboost_jax.data import mixing_folder


@pytest.fixture
def tree(tmp_path):
  """A tree like that of the paper, with a note and a hidden file in it."""
  rng = np.random.default_rng(0)
  root = tmp_path / "mixing"
  for folder, suffix in (("fractals/images", "png"), ("first_layers/images", "PNG")):
    (root / folder).mkdir(parents=True)
    for i in range(2):
      pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(root / folder / f"{i}.{suffix}")
  (root / "readme.txt").write_text("not a picture")
  (root / "fractals" / ".hidden.png").write_bytes(b"not a picture either")
  return root


def read(tree, cache, **options):
  return mixing_folder.read(tree, cache=cache, **{"size": 36, **options})


def test_every_picture_of_the_tree_resized_as_pillow_does(tree, tmp_path):
  got = read(tree, tmp_path / "cache")
  files = sorted(p for p in tree.rglob("*.*") if p.suffix in (".png", ".PNG") and p.name[0] != ".")
  assert got.shape == (4, 36, 36, 3)
  assert got.dtype == np.uint8
  for pixels, file in zip(got, files, strict=True):
    want = Image.open(file).resize((36, 36), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, np.asarray(want))


def test_grey_pictures_for_grey_data(tree, tmp_path):
  assert read(tree, tmp_path / "cache", num_channels=1).shape == (4, 36, 36, 1)


def test_a_second_read_decodes_nothing_and_a_changed_folder_is_read_anew(
  tree, tmp_path, monkeypatch
):
  cache = tmp_path / "cache"
  first = read(tree, cache)
  with monkeypatch.context() as patch:
    patch.setattr(mixing_folder.pictures, "read_all", None)
    np.testing.assert_array_equal(read(tree, cache), first)
  Image.new("RGB", (36, 36), "red").save(tree / "z.png")
  again = read(tree, cache)
  assert len(again) == 5
  np.testing.assert_array_equal(again[4], np.broadcast_to([255, 0, 0], (36, 36, 3)))


def test_a_damaged_or_forbidden_cache_is_no_error(tree, tmp_path):
  cache = tmp_path / "cache"
  first = read(tree, cache)
  (stored,) = cache.iterdir()
  stored.write_bytes(b"half")
  np.testing.assert_array_equal(read(tree, cache), first)
  in_the_way = tmp_path / "file"
  in_the_way.write_text("")
  np.testing.assert_array_equal(read(tree, in_the_way), first)


def test_errors_name_the_place_and_the_remedy(tree, tmp_path):
  with pytest.raises(
    ValueError, match=r"mixing_dir='.*nowhere': does not exist; expected a folder"
  ):
    read(tmp_path / "nowhere", tmp_path)
  with pytest.raises(ValueError, match="is a file"):
    read(tree / "readme.txt", tmp_path)
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="no pictures"):
    read(tmp_path / "empty", tmp_path)
  (tree / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
  with pytest.raises(ValueError, match=r"broken\.jpg: not a readable picture"):
    read(tree, tmp_path / "cache")
  assert not (tmp_path / "cache").exists()


def test_the_cache_is_the_user_s(monkeypatch, tmp_path):
  monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path)
  assert mixing_folder.default_cache().is_relative_to(tmp_path)
