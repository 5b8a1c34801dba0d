# SPDX-License-Identifier: Apache-2.0

import errno
import json
import os
import stat

import pytest

from mixboost_jax import files


def test_writes_and_replaces(tmp_path):
  path = tmp_path / "a.txt"
  files.write_text(path, "one")
  files.write_text(path, "zwölf")
  assert path.read_bytes() == "zwölf".encode()
  files.write_json(tmp_path / "b.json", {"x": [1, 2.5, None]})
  assert json.loads((tmp_path / "b.json").read_text()) == {"x": [1, 2.5, None]}
  assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.json"]


def test_obeys_the_umask(tmp_path):
  before = os.umask(0o027)
  try:
    files.write_text(tmp_path / "a", "x")
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
  path = tmp_path / "a.json"
  files.write_json(path, "old")

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  if broken == "write":
    monkeypatch.setattr("builtins.open", full)
  else:
    monkeypatch.setattr(os, broken, full)
  with pytest.raises(files.WriteError, match=r"a\.json: the disk is full; free some space") as info:
    files.write_json(path, "new")
  assert info.value.errno == errno.ENOSPC
  monkeypatch.undo()
  assert json.loads(path.read_text()) == "old"
  assert os.listdir(tmp_path) == ["a.json"]


def test_any_other_failure_leaves_nothing_either(tmp_path):
  def write_half_a_picture():
    with files.replacing(tmp_path / "strip.png") as temporary:
      assert temporary.suffix == ".png"
      temporary.write_bytes(b"half")
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_half_a_picture()
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_refuses_what_json_cannot_say(tmp_path, value):
  with pytest.raises(ValueError, match=r"x\.json: not JSON"):
    files.write_json(tmp_path / "x.json", {"v": value})
  assert os.listdir(tmp_path) == []


def test_names_missing_folders_and_files_in_the_way(tmp_path):
  with pytest.raises(files.WriteError, match="the folder does not exist"):
    files.write_text(tmp_path / "no" / "a", "x")
  (tmp_path / "file").write_text("")
  with pytest.raises(files.WriteError, match="a part of the path is a file"):
    files.make_folder(tmp_path / "file" / "below")
  with pytest.raises(files.WriteError, match="a file of that name is in the way"):
    files.make_folder(tmp_path / "file")
  with pytest.raises(files.WriteError, match=r"write /proc/x: no folder can be made there; choose"):
    files.make_folder("/proc/x")
  assert files.make_folder(tmp_path / "x" / "y").is_dir()
