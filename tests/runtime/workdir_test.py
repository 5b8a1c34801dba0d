# SPDX-License-Identifier: Apache-2.0
import json
import os
import socket
import subprocess
import sys

import ml_collections
import pytest

from configs import base
from mixboost_jax import files, settings
from mixboost_jax.runtime import interrupt, workdir

FILES = (".lock", "config.json")


def resolved(**overrides):
  config = base.override(base.get_config(), overrides)
  assert isinstance(config, ml_collections.ConfigDict)
  return settings.resolve(config)


def test_creates_then_resumes(tmp_path):
  folder = tmp_path / "runs" / "a"
  with workdir.open_run(folder, resolved(), versions={"jax": "1.0"}) as run:
    assert not run.resumed
    assert sorted(os.listdir(folder)) == sorted(FILES)
    assert run.metrics == folder / "metrics.jsonl"
    assert run.results.parent == run.config.parent == run.checkpoints.parent == folder
  assert os.listdir(folder) == ["config.json"]
  tree = workdir.read_config(folder)
  assert tree["settings"] == resolved().to_json()
  assert tree["config_hash"] == settings.config_hash(resolved())
  assert tree["versions"] == {"jax": "1.0"}
  with workdir.open_run(folder, resolved()) as run:
    assert run.resumed


def test_what_does_not_shape_training_may_change(tmp_path, capsys):
  workdir.open_run(tmp_path, resolved(), versions={"jax": "1.0", "numpy": "2"}).close()
  changed = resolved(**{"evaluate.ece_bins": 20, "runtime.cpu_devices": 2})
  with workdir.open_run(tmp_path, changed, versions={"jax": "1.1", "numpy": "2"}) as run:
    assert run.resumed
  assert "resuming with other versions, rounding may differ: jax 1.0 -> 1.1" in (
    capsys.readouterr().err
  )
  assert workdir.read_config(tmp_path)["versions"]["jax"] == "1.0"  # that of the first start


def test_the_folder_of_an_older_version_is_used_without_its_missing_options(tmp_path, capsys):
  workdir.open_run(tmp_path, resolved()).close()
  tree = workdir.read_config(tmp_path)
  del tree["settings"]["adversary"], tree["settings"]["augment"]["mixing_dir"]
  (tmp_path / "config.json").write_text(json.dumps(tree))
  (tmp_path / "checkpoints" / "00000001").mkdir(parents=True)
  with workdir.open_run(tmp_path, resolved()) as run:
    assert run.resumed
  assert (
    "not recorded by the version that made this run, taken as "
    "adversary.name='none', augment.mixing_dir=''\n" in capsys.readouterr().err
  )
  with pytest.raises(workdir.WorkdirError, match=r"  - adversary\.name: 'none' -> 'at'$"):
    workdir.open_run(tmp_path, resolved(**{"adversary.name": "at"}))


def test_another_config_is_refused_with_the_difference(tmp_path):
  workdir.open_run(tmp_path, resolved()).close()
  (tmp_path / "checkpoints" / "00000001").mkdir(parents=True)
  before = (tmp_path / "config.json").read_bytes()
  changed = resolved(**{"train.batch_size": 64, "augment.crop_padding": 8})
  with pytest.raises(workdir.WorkdirError, match="holds a run of another config") as info:
    workdir.open_run(tmp_path, changed)
  assert "  - augment.crop_padding: 4 -> 8\n  - train.batch_size: 128 -> 64" in str(info.value)
  assert sorted(os.listdir(tmp_path)) == ["checkpoints", "config.json"]
  assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("left", ["nothing", "00000001.partial", "metrics.jsonl"])
def test_a_run_that_came_to_nothing_does_not_claim_its_folder(tmp_path, capsys, left):
  workdir.open_run(tmp_path, resolved()).close()
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "notes.txt").write_text("kept")
  if left.endswith("partial"):
    (tmp_path / "checkpoints" / left).mkdir()
  if left.endswith("jsonl"):
    (tmp_path / left).write_text('{"step": 7}\n')
  changed = resolved(**{"train.batch_size": 64})
  with workdir.open_run(tmp_path, changed) as run:
    assert not run.resumed
  assert "holds no checkpoint; starting anew" in capsys.readouterr().err
  assert sorted(os.listdir(tmp_path)) == ["config.json", "notes.txt"]
  assert workdir.read_config(tmp_path)["settings"] == changed.to_json()


@pytest.mark.parametrize(
  "left", ["checkpoints/00000002", "checkpoints/00000002.damaged", "results.json", "audit.json"]
)
def test_a_run_that_has_something_to_show_claims_its_folder(tmp_path, left):
  workdir.open_run(tmp_path, resolved()).close()
  (tmp_path / left).mkdir(parents=True)
  with pytest.raises(workdir.WorkdirError, match="holds a run of another config"):
    workdir.open_run(tmp_path, resolved(**{"train.batch_size": 64}))


def test_a_path_that_is_not_text_is_refused_at_once(tmp_path):
  path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
  with pytest.raises(workdir.WorkdirError, match=r"udcff': not a UTF-8 name; choose another"):
    workdir.open_run(path, resolved())
  assert os.listdir(tmp_path) == []


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("precious")
  with pytest.raises(workdir.WorkdirError, match=r"not a run folder \(it holds thesis\.tex"):
    workdir.open_run(tmp_path, resolved())
  assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "cannot be read"),
    ('{"settings": {', "cannot be read"),
    ("[]", "not the config of a run"),
    ('{"settings": ' + "[" * 10**5, "cannot be read .*at most 50 lists or mappings"),
    ('{"settings": {}, "config_version": 9}', "config version 9"),
  ],
)
def test_damaged_configs_are_refused(tmp_path, text, message):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(workdir.WorkdirError, match=message):
    workdir.open_run(tmp_path, resolved())
  assert os.listdir(tmp_path) == ["config.json"]


def test_files_in_the_way_are_refused(tmp_path):
  (tmp_path / "file").write_text("")
  for path in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(workdir.WorkdirError, match="leads through a file"):
      workdir.open_run(path, resolved())


def test_left_overs_of_a_killed_start_do_not_count(tmp_path):
  (tmp_path / f"{files.TEMPORARY_PREFIX}x-config.json").write_text("{")
  with workdir.open_run(tmp_path, resolved()) as run:
    assert not run.resumed
  assert os.listdir(tmp_path) == ["config.json"]


def test_a_full_disk_creates_nothing(tmp_path, monkeypatch):
  def full(path, tree):
    raise files.write_error(path, OSError(28, "full"))

  real = files.write_json
  monkeypatch.setattr(
    files, "write_json", lambda p, t: (full if p.name == "config.json" else real)(p, t)
  )
  with pytest.raises(files.WriteError, match="the disk is full"):
    workdir.open_run(tmp_path, resolved())
  assert os.listdir(tmp_path) == []


def test_two_processes_cannot_share_a_folder(tmp_path):
  script = (
    "import sys, time\n"
    "from mixboost_jax.runtime import workdir\n"
    "held = workdir.FolderLock(sys.argv[1]); held.acquire(); print('held', flush=True)\n"
    "time.sleep(60)\n"
  )
  child = subprocess.Popen(
    [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
  )
  try:
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(workdir.WorkdirError, match=f"in use by process {child.pid}; wait for it"):
      workdir.open_run(tmp_path, resolved())
  finally:
    child.kill()
    child.communicate()
  # Killed without a chance to clean up: the lock file is still there, its process is not.
  assert (tmp_path / ".lock").exists()
  with workdir.open_run(tmp_path, resolved()) as run:
    assert not run.resumed
  assert os.listdir(tmp_path) == ["config.json"]


def test_taking_over_is_said(tmp_path, capsys):
  lock = workdir.FolderLock(tmp_path)
  lock.acquire()
  holder = json.loads((tmp_path / ".lock").read_text())
  assert holder["pid"] == os.getpid()
  # The same number, but a process that started at another time: numbers are used again.
  (tmp_path / ".lock").write_text(json.dumps(holder | {"started": "1"}))
  second = workdir.FolderLock(tmp_path)
  second.acquire()
  assert f"taking over from process {os.getpid()}: it has ended" in capsys.readouterr().err
  second.release()
  assert os.listdir(tmp_path) == []


def test_the_loser_of_a_take_over_does_not_remove_the_lock_of_the_winner(tmp_path):
  first = workdir.FolderLock(tmp_path)
  first.acquire()
  (tmp_path / ".lock").write_text('{"pid": 1, "started": "", "machine": "other"}')
  first.release()
  assert (tmp_path / ".lock").exists()


def test_locks_of_other_machines_count_until_they_fall_silent(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(workdir, "LOOK_SECONDS", 0.01)
  path = tmp_path / ".lock"
  path.write_text('{"pid": 7, "started": "5", "machine": "elsewhere"}')
  looks = []

  def touched_by_its_holder():
    looks.append(1)
    if len(looks) == 3:
      os.utime(path)
    return False

  with pytest.raises(RuntimeError, match="process 7 on another machine"):
    workdir.FolderLock(tmp_path).acquire(should_stop=touched_by_its_holder)
  assert len(looks) == 3
  assert "waiting up to 120 s for a sign of life" in capsys.readouterr().err
  past = path.stat().st_mtime - workdir.SILENT_SECONDS - 60
  os.utime(path, (past, past))
  lock = workdir.FolderLock(tmp_path)
  lock.acquire()
  assert "it has been silent for 18" in capsys.readouterr().err
  lock.release()


def test_the_lock_of_a_dead_host_is_taken_over_after_its_silence(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(workdir, "LOOK_SECONDS", 0.01)
  monkeypatch.setattr(workdir, "SILENT_SECONDS", 0.3)
  path = tmp_path / ".lock"
  here = workdir.FolderLock(tmp_path)
  with monkeypatch.context() as other_host:
    other_host.setattr(socket, "gethostname", lambda: "node2")
    workdir.FolderLock(tmp_path).acquire()  # and is never heard of again
  with workdir.open_run(tmp_path, resolved()) as run:
    assert not run.resumed
    assert json.loads(path.read_text())["machine"] == workdir._machine()
  lines = capsys.readouterr().err.splitlines()
  assert "locked by a process on another machine; waiting up to 0 s" in lines[0]
  assert "it has been silent for 0 s" in lines[1]
  here.release()


def test_waiting_for_a_lock_ends_on_request(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, "LOOK_SECONDS", 0.01)
  text = '{"pid": 7, "started": "5", "machine": "elsewhere"}'
  (tmp_path / ".lock").write_text(text)
  with pytest.raises(interrupt.Stopped) as caught:
    workdir.open_run(tmp_path, resolved(), should_stop=lambda: True)
  assert caught.value.code == interrupt.EXIT_PREEMPTED
  assert (tmp_path / ".lock").read_text() == text


def test_a_held_lock_is_touched(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, "TOUCH_SECONDS", 0.01)
  lock = workdir.FolderLock(tmp_path)
  lock.acquire()
  os.utime(tmp_path / ".lock", (1, 1))
  for _ in range(500):
    if (tmp_path / ".lock").stat().st_mtime > 1:
      break
    lock._stop.wait(0.01)
  assert (tmp_path / ".lock").stat().st_mtime > 1
  lock.release()


def test_an_empty_lock_file_is_taken_over(tmp_path):
  (tmp_path / ".lock").write_text("")
  lock = workdir.FolderLock(tmp_path)
  lock.acquire()
  assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
  lock.release()
  assert os.listdir(tmp_path) == []


def test_reading_needs_a_run_folder(tmp_path):
  with pytest.raises(workdir.WorkdirError, match=r"not a run folder, it has no config\.json"):
    workdir.read_config(tmp_path)
