# SPDX-License-Identifier: Apache-2.0

import dataclasses
import io
import os
import pathlib
import re
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from mixboost_jax import data
from mixboost_jax.data import folders, pictures
from mixboost_jax.data.dataset import TEST_SHARE, is_test, shuffled


def test_reads_train_and_test_folders(settings, write_pictures):
  root = write_pictures("train/cat", "train/dog", "test/dog", "test/cat")
  dataset = data.load(settings(name="folder", dir=root))
  assert dataset.class_names == ("cat", "dog")
  assert (len(dataset.train), len(dataset.test)) == (6, 6)
  colors = dataset.train.images[:, 0, 0].tolist()
  by_class = {
    c: sorted(x for x, y in zip(colors, dataset.train.labels, strict=True) if y == c)
    for c in (0, 1)
  }
  assert by_class[0] == [[i, 200 - i, 30] for i in range(3)]
  assert by_class[1] == [[10 + i, 200 - i, 30] for i in range(3)]
  assert sorted(dataset.test.images[dataset.test.labels == 0, 0, 0, 0]) == [30, 31, 32]
  np.testing.assert_array_equal(dataset.train.ids, np.arange(6))


@pytest.mark.parametrize(
  ("train", "test"),
  [
    ("train", "val"),
    ("train", "valid"),
    ("train", "validation"),
    ("train", "testing"),
    ("train", "eval"),
    ("training", "test"),
    ("Train", "Test"),
    ("TRAIN", "Val"),
  ],
)
def test_other_names_of_the_split_folders(settings, write_pictures, train, test):
  root = write_pictures(f"{train}/cat", f"{train}/dog", f"{test}/dog", "notes")
  dataset = data.load(settings(name="folder", dir=root))
  assert dataset.class_names == ("cat", "dog")
  assert dataset.test.labels.tolist() == [1, 1, 1]


def test_the_test_folder_is_preferred_to_the_validation_folder(settings, write_pictures):
  root = write_pictures("train/cat", "train/dog", "val/cat", "Test/dog")
  assert data.load(settings(name="folder", dir=root)).test.labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
  ("layout", "message"),
  [
    (("train/a", "train/b"), r"got train/ without .*/test/CLASS/FILE; add it, or set .*/train to"),
    (("Train/a", "Train/b"), r"got Train/ without .*/test/CLASS/FILE; add it, or set .*/Train to"),
    (("val/a", "val/b"), r"got val/ without .*/train/CLASS/FILE"),
    (("cat", "dog", "eval/cat"), r"got eval/ without .*/train/CLASS/FILE"),
    (("train", "test"), r"expected train/CLASS/FILE and test/CLASS/FILE, got pictures without"),
    (("train/a", "Train/b", "test/a"), r"expected one folder of a name, got Train, test, train"),
    (("train/a", "test/a"), r"train: expected at least 2 classes to tell apart, got only 'a'"),
    (("cat",), r"expected at least 2 classes to tell apart, got only 'cat'"),
  ],
)
def test_splits_do_not_become_classes(settings, write_pictures, layout, message):
  root = write_pictures(*layout, count=9)
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="folder", dir=root))


def test_the_way_out_for_a_lone_split_works(settings, write_pictures):
  root = write_pictures("train/a", "train/b", count=9)
  assert data.load(settings(name="folder", dir=root / "train")).class_names == ("a", "b")


def test_a_class_may_be_called_train(settings, write_pictures):
  root = write_pictures("bus", "train", count=9)
  assert data.load(settings(name="folder", dir=root)).class_names == ("bus", "train")


def test_names_of_classes_are_text(settings, write_pictures):
  root = write_pictures("a", "b", count=9)
  (root / "b").rename(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
  with pytest.raises(ValueError, match=r"expected class names in UTF-8, got 'caf.*rename it"):
    data.load(settings(name="folder", dir=root))


def test_a_pipe_is_no_picture(settings, write_pictures):
  root = write_pictures("train/a", "train/b", "test/a", count=1)
  os.mkfifo(root / "train/a/pipe.png")
  with pytest.raises(
    ValueError, match=r"pipe.png: not a readable picture \(expected a regular fil"
  ):
    data.load(settings(name="folder", dir=root))


def test_plain_folders_are_split_by_name(settings, write_pictures):
  root = write_pictures("a", "b", count=60)
  write_pictures("c", count=60, root=root.with_name("more"))
  train, test, names = folders.list_files(root)
  assert names == ("a", "b")
  assert not set(train.names) & set(test.names)
  assert len(train.names) + len(test.names) == 120
  share = len(test.names) / 120
  assert abs(share - TEST_SHARE) < 4 * np.sqrt(0.2 * 0.8 / 120)
  shutil.rmtree(root / "b")
  shutil.move(root.with_name("more") / "c", root / "c")
  again, _, _ = folders.list_files(root)
  kept, now = ([n for n in one.names if n.startswith("a/")] for one in (train, again))
  assert now == kept, "order and split of a file do not depend on the others"
  first = train.labels[:30]
  assert 4 <= sum(first) <= 26, "the beginning mixes the classes"


def test_the_split_never_changes():
  names = [f"cat/{i}.png" for i in range(12)]
  assert [n for n in names if is_test(n)] == ["cat/4.png", "cat/7.png", "cat/11.png"]
  assert shuffled(names)[:3] == ["cat/7.png", "cat/9.png", "cat/6.png"]


@pytest.mark.parametrize(
  ("height", "width"),
  [(300, 451), (427, 640), (451, 300), (256, 301), (57, 91), (224, 224), (91, 91), (10, 150)],
)
def test_the_shorter_side_is_resized_and_the_middle_square_cut_out(height, width):
  """As torchvision's Resize(32) and CenterCrop(28), of any size of picture, down to the bits."""
  rng = np.random.default_rng(height)
  pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
  sides = (32, int(32 * width / height)) if height <= width else (int(32 * height / width), 32)
  whole = Image.fromarray(pixels).resize(sides[::-1], Image.Resampling.BILINEAR)
  top, left = (round((side - 28) / 2.0) for side in sides)
  want = np.asarray(whole)[top : top + 28, left : left + 28]
  raw = pictures.encode_png(pixels)
  found = pictures.decode(raw, num_channels=3, image_size=28, place="x", margin=4)
  np.testing.assert_array_equal(found, want)


def test_the_middle_is_kept_of_an_extremely_long_picture():
  """Two pixels high: resized whole it would be 60,000 pixels wide."""
  pixels = np.zeros((2, 12_000, 3), np.uint8)
  pixels[:, 5_900:6_100] = 200
  raw = pictures.encode_png(pixels)
  found = pictures.decode(raw, num_channels=3, image_size=10, place="x")
  np.testing.assert_array_equal(found, np.full((10, 10, 3), 200))


@pytest.mark.parametrize("stream", ["off", "on"])
def test_a_margin_of_test_pictures_is_cut_off(settings, tmp_path, stream):
  """Resize to 8 on the shorter side, then the middle 6; training pictures keep their border."""
  picture = np.full((16, 32, 3), 200, np.uint8)
  picture[:2] = picture[-2:] = picture[:, :10] = picture[:, 22:] = 0
  for split in ("train", "test"):
    (tmp_path / split / "x").mkdir(parents=True)
    (tmp_path / split / "y").mkdir()
    Image.fromarray(picture).save(tmp_path / split / "y" / "wide.png")
    Image.fromarray(picture).save(tmp_path / split / "x" / "wide.png")
  chosen = settings(name="folder", dir=tmp_path, image_size=6, test_margin=2, stream=stream)
  dataset = data.load(chosen)
  resized = Image.fromarray(picture).resize((16, 8), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(dataset.test.images[0], np.asarray(resized)[1:7, 5:11])
  assert np.asarray(dataset.train.images)[0, 0].max() < 150 < np.asarray(dataset.test.images).max()


def test_grey_palette_and_transparent_files_become_colour(settings, write_pictures):
  root = write_pictures("train/a", "train/b", "test/a", count=1)
  for i, mode in enumerate(("L", "P", "RGBA", "LA", "1")):
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(root / f"train/a/{i + 5}.png")
  images = data.load(settings(name="folder", dir=root)).train.images
  assert images.shape == (7, 8, 8, 3)
  assert np.sum(images.min(axis=(1, 2, 3)) == 255) == 5


def test_hidden_and_foreign_files_are_skipped(settings, write_pictures):
  root = write_pictures("train/a", "test/a", "train/.cache", "train/b", count=2)
  (root / "train/a/._0.png").write_bytes(b"x")
  (root / "train/a/notes.txt").write_text("x")
  (root / "train/README.png").write_bytes(b"x")
  dataset = data.load(settings(name="folder", dir=root))
  assert (len(dataset.train), dataset.class_names) == (4, ("a", "b"))


def broken(root):
  (root / "train/a/bad.png").write_bytes(b"\x89PNG no")


def truncated(root):
  raw = (root / "train/a/0.png").read_bytes()
  (root / "train/a/0.png").write_bytes(raw[: len(raw) // 2])


def other_size(root):
  Image.new("RGB", (9, 8)).save(root / "train/a/wide.png")


def mode_of_sixteen_bits():
  """What this Pillow calls them: I;16, or I of older ones."""
  file = io.BytesIO()
  Image.fromarray(np.zeros((8, 8), np.uint16)).save(file, "png")
  return Image.open(file).mode


SIXTEEN = mode_of_sixteen_bits()


def sixteen_bits(root):
  Image.fromarray(np.zeros((8, 8), np.uint16)).save(root / "train/a/deep.png")


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (broken, r"bad.png: not a readable picture"),
    (truncated, r"0.png: not a readable picture"),
    (other_size, r"different shapes: .*x3.*config.data.image_size to resize all"),
    (sixteen_bits, rf"deep.png: {SIXTEEN} pixels; expected 8 bits"),
    (lambda root: shutil.rmtree(root / "test/a"), r"expected two splits, got train/ without"),
    (lambda root: (root / "train/empty").mkdir(), r"train/empty: a class without pictures"),
    (lambda root: shutil.rmtree(root / "train/a"), r"classes a have no training pictures"),
    (lambda root: (root / "test/c").mkdir(), r"test/c: a class without pictures"),
  ],
)
def test_wrong_folders_give_one_error(settings, write_pictures, harm, message):
  root = write_pictures("train/a", "train/b", "test/a")
  harm(root)
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="folder", dir=root))


def test_an_empty_folder(settings, tmp_path):
  with pytest.raises(ValueError, match=r"no training pictures .*expected .*/train/CLASS/FILE"):
    data.load(settings(name="folder", dir=tmp_path))


def test_sets_that_do_not_fit_are_streamed_or_refused_before_they_are_read(
  settings, write_pictures, monkeypatch
):
  monkeypatch.setattr(pictures, "MAX_BYTES", 3 * 8 * 8 * 5)
  root = write_pictures("train/a", "train/b", "test/a")
  part = settings(name="folder", dir=root, train_examples=5)
  assert not data.load(part).is_streamed
  whole = settings(name="folder", dir=root, stream="off")
  with pytest.raises(
    pictures.TooLargeError, match=r"6 pictures of 8x8x3 need .*image_size smaller"
  ):
    data.load(whole)
  assert data.load(dataclasses.replace(whole, stream="auto")).is_streamed
  assert len(data.load(dataclasses.replace(whole, image_size=4)).train) == 6


def test_png_keeps_every_byte():
  rng = np.random.default_rng(0)
  for channels in (1, 3):
    image = rng.integers(0, 256, size=(5, 7, channels), dtype=np.uint8)
    raw = pictures.encode_png(image)
    again = pictures.decode(raw, num_channels=channels, image_size=0, place="x")
    np.testing.assert_array_equal(again, image)
    if channels == 3:
      assert pictures.normalise(raw, image_size=0, place="x") is raw


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TIFF", "PPM", "ICO"])
def test_what_is_in_a_file_decides_not_its_name(
  settings, write_pictures, tmp_path, monkeypatch, kind
):
  """EPS would start Ghostscript, whose place a stand-in takes here."""
  called = tmp_path / "called"
  (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n")
  (tmp_path / "gs").chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
  monkeypatch.setattr(EpsImagePlugin, "gs_binary", None, raising=False)
  root = write_pictures("train/a", "train/b", "test/a", count=1)
  Image.new("RGB", (8, 8)).save(root / "train/a/x.png", kind)
  with pytest.raises(ValueError, match=r"x.png: not a readable picture \(no PNG, JPEG, BMP, WEBP"):
    data.load(settings(name="folder", dir=root))
  assert not called.exists()


def test_every_reader_of_pictures_names_its_formats():
  top = pathlib.Path(folders.__file__).parents[2]
  opening = re.compile(r"Image\.open\((?:[^()]|\([^()]*\))*\)")
  calls = [
    call
    for folder in ("mixboost_jax", "benchmarks")
    for file in (top / folder).rglob("*.py")
    for call in opening.findall(file.read_text())
  ]
  assert calls
  assert all(re.search(r"formats=(pictures\.)?FORMATS\)", call) for call in calls), calls


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded():
  raw = bytearray(pictures.encode_png(np.zeros((4, 4, 3), np.uint8)))
  for side in (10_000, 30_000):  # Pillow warns of the first, stops at the second
    raw[16:24] = struct.pack(">II", side, side)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      with pytest.raises(ValueError, match=r"x: not a readable picture \(.*pixels"):
        pictures.decode(bytes(raw), num_channels=3, image_size=8, place="x")


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
  return folders.read_mixing_images(tree, cache=cache, **{"size": 36, **options})


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
    patch.setattr(folders.pictures, "decode", None)
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
  assert folders.default_cache().is_relative_to(tmp_path)
