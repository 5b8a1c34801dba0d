# SPDX-License-Identifier: Apache-2.0
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import files
from mixboost_jax.runtime import checkpoint, mesh
from mixboost_jax.runtime.checkpoint import Checkpointer, CheckpointError


class Moments(NamedTuple):
  first: jax.Array
  second: jax.Array


def example(seed=0, sharding=None):
  keys = jax.random.split(jax.random.key(seed), 3)
  state = {
    "params": {"conv.kernel": jax.random.normal(keys[0], (3, 3, 16, 32)), "bias": jnp.zeros(())},
    "moments": (Moments(*jax.random.normal(keys[1], (2, 8, 4))), None, ()),
    "half": jax.random.normal(keys[2], (16,)).astype(jnp.bfloat16),
    "odd": jnp.asarray([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32),
    "step": jnp.int32(seed),
    "count": np.arange(3),
    "epoch": 7,
    "rate": 0.1,
  }
  return jax.device_put(state, sharding) if sharding else state


def bits(tree):
  return [
    (type(leaf).__name__, np.asarray(leaf).dtype, np.asarray(leaf).tobytes())
    for leaf in jax.tree.leaves(tree)
  ]


def save_all(folder, steps, **options):
  with Checkpointer(folder, **{"keep_last": 9} | options) as saver:
    for step in steps:
      saver.save(step, example(step), metadata={"config_hash": "abc"})


def test_nothing_to_restore(tmp_path):
  with Checkpointer(tmp_path / "none") as saver:
    assert saver.restore(example()) is None
    assert saver.steps() == []
  assert not (tmp_path / "none").exists()


def test_round_trip_is_bit_identical_and_keeps_the_structure(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(3, example(3), metric=1.5, metadata={"config_hash": "abc", "epoch": [1, 2]})
  with Checkpointer(tmp_path) as other:
    restored = other.restore(example(0))
  assert restored is not None
  assert restored.metadata == {"step": 3, "metric": 1.5, "config_hash": "abc", "epoch": [1, 2]}
  assert jax.tree.structure(restored.state) == jax.tree.structure(example(3))
  assert bits(restored.state) == bits(example(3))


@pytest.mark.skipif(jax.device_count() != 8, reason="written for 8 devices")
@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8), (8, 8)])
def test_other_numbers_of_devices(tmp_path, before, after):
  def shardings(count):
    made = mesh.create(fsdp=count, devices=jax.devices()[:count])
    return made, lambda tree: mesh.shard_params(made, tree)

  def arrays(seed):
    return {"w": jax.random.normal(jax.random.key(seed), (64, 512)), "b": jnp.float32(seed)}

  _, place = shardings(before)
  with Checkpointer(tmp_path) as saver:
    saver.save(1, jax.device_put(arrays(1), place(arrays(1))))
  _, place = shardings(after)
  like = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), arrays(0), place(arrays(0))
  )
  with Checkpointer(tmp_path) as saver:
    restored = saver.restore(like)
  assert restored is not None
  assert bits(restored.state) == bits(arrays(1))
  assert jax.tree.map(lambda x: x.sharding, restored.state) == place(arrays(0))


def test_buffers_may_be_donated_right_after_save(tmp_path):
  def arrays():
    return {f"w{i}": jax.random.normal(jax.random.key(i), (256, 256)) for i in range(8)}

  before = bits(arrays())
  state = arrays()  # nobody else has looked at these buffers
  step = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
  with Checkpointer(tmp_path) as saver:
    saver.save(1, state)
    later = step(state)
    for _ in range(10):
      later = step(later)
    jax.block_until_ready(later)
    saver.wait()
    restored = saver.restore(later)
  assert restored is not None
  assert bits(restored.state) == before


@pytest.mark.skipif(jax.device_count() < 2, reason="needs copies on several devices")
def test_equal_copies_on_several_devices_are_saved_without_a_program_per_shape(tmp_path, caplog):
  copies = jax.NamedSharding(mesh.create(), jax.P())
  state = jax.device_put({f"w{i}": jnp.ones((2 * i, 5)) for i in range(1, 4)}, copies)
  with jax.log_compiles(), Checkpointer(tmp_path) as saver:
    saver.save(1, state)
    saver.wait()
    assert "ompil" not in caplog.text
    restored = saver.restore(state)
  assert restored is not None
  assert bits(restored.state) == bits(state)
  assert all(leaf.sharding == copies for leaf in jax.tree.leaves(restored.state))


def test_works_where_the_training_loop_forbids_transfers(tmp_path):
  state, like = example(1), example(0)
  with jax.transfer_guard("disallow"), Checkpointer(tmp_path) as saver:
    saver.save(1, state)
    restored = saver.restore(like)
  assert restored is not None
  assert bits(restored.state) == bits(state)


def test_keeps_the_last_and_the_best(tmp_path):
  metrics = {1: 5.0, 2: 1.0, 3: float("nan"), 4: 3.0, 5: None, 6: 4.0, 7: 9.0}
  with Checkpointer(tmp_path, keep_last=2, keep_best=2) as saver:
    for step, metric in metrics.items():
      saver.save(step, {"x": jnp.int32(step)}, metric=metric)
    saver.wait()
    assert saver.steps() == [2, 4, 6, 7]
    newest, best = (saver.restore({"x": jnp.int32(0)}, which=w) for w in ("newest", "best"))
  assert newest is not None
  assert best is not None
  assert (int(newest.state["x"]), int(best.state["x"])) == (7, 2)
  assert sorted(os.listdir(tmp_path)) == ["00000002", "00000004", "00000006", "00000007"]


def test_no_metric_is_never_best(tmp_path):
  with Checkpointer(tmp_path, keep_last=1, keep_best=1) as saver:
    for step, metric in {1: 5.0, 2: 3.0, 3: 8.0, 4: None}.items():
      saver.save(step, {"x": jnp.int32(step)}, metric=metric)
    saver.wait()
    assert saver.steps() == [2, 4]
    best = saver.restore({"x": jnp.int32(0)}, which="best")
  assert best is not None
  assert best.metadata["step"] == 2


def files_of(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def largest_file(folder):
  return max(files_of(folder), key=lambda p: p.stat().st_size)


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGE = {
  "truncated to half": lambda f: os.truncate(largest_file(f), largest_file(f).stat().st_size // 2),
  "truncated by a byte": lambda f: os.truncate(largest_file(f), largest_file(f).stat().st_size - 1),
  "emptied": lambda f: largest_file(f).write_bytes(b""),
  "file deleted": lambda f: largest_file(f).unlink(),
  "garbage of the same size": lambda f: largest_file(f).write_bytes(
    b"\0" * largest_file(f).stat().st_size
  ),
  "one bit": lambda f: flip_a_bit(largest_file(f)),
  "tree file": lambda f: (f / "_METADATA").write_text("{"),
  "index emptied": lambda f: (f / "manifest.ocdbt").write_bytes(b""),
  "every file emptied": lambda f: [p.write_bytes(b"") for p in files_of(f)],
  "contents deleted": lambda f: (f / checkpoint.FILE_NAME).unlink(),
  "contents without end": lambda f: (f / checkpoint.FILE_NAME).write_text("[" * 10**5),
  "contents truncated": lambda f: os.truncate(f / checkpoint.FILE_NAME, 30),
  "contents altered": lambda f: (f / checkpoint.FILE_NAME).write_text(
    (f / checkpoint.FILE_NAME).read_text().replace('"step": 20', '"step": 21')
  ),
  "everything deleted": lambda f: [shutil.rmtree(f), f.mkdir()],
}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  save_all(folder, [10, 20])
  return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_falls_back_with_one_warning(tmp_path, two_checkpoints, damage, capsys):
  folder = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, folder)
  DAMAGE[damage](folder / "00000020")
  broken = {p.name: p.read_bytes() for p in files_of(folder / "00000020")}
  with Checkpointer(folder, keep_last=2) as saver:
    restored = saver.restore(example(0))
    assert restored is not None
    assert restored.metadata["step"] == 10
    assert bits(restored.state) == bits(example(10))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("warning: ")
    assert f"{folder / '00000020'} is damaged (" in lines[0]
    assert f"continuing from {folder / '00000010'} instead" in lines[0]
    # Training goes on and reaches the same step again: nothing is in the way, nothing is deleted.
    saver.save(20, example(20))
    saver.wait()
    assert saver.steps() == [10, 20]
    again = saver.restore(example(0))
  assert again is not None
  assert bits(again.state) == bits(example(20))
  assert {p.name: p.read_bytes() for p in files_of(folder / "00000020.damaged")} == broken


def test_the_warning_says_what_is_wrong(tmp_path, two_checkpoints):
  folder = tmp_path / "00000020"
  shutil.copytree(two_checkpoints / "00000020", folder)
  file = largest_file(folder)
  name, size = file.relative_to(folder).as_posix(), file.stat().st_size
  flip_a_bit(file)
  with pytest.raises(checkpoint.DamagedError, match=f"^{name} was altered"):
    checkpoint.verify(folder)
  os.truncate(file, 7)
  with pytest.raises(checkpoint.DamagedError, match=f"^{name} has 7 of {size} bytes$"):
    checkpoint.verify(folder)
  file.unlink()
  with pytest.raises(checkpoint.DamagedError, match=f"^{name} is missing$"):
    checkpoint.verify(folder)


@pytest.mark.parametrize("name", ["00000030", "00000015", "00000005"])
@pytest.mark.parametrize("how", [os.rename, shutil.copytree])
def test_a_renamed_or_copied_checkpoint_is_not_taken_for_another_step(
  tmp_path, two_checkpoints, name, how, capsys
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, folder)
  how(folder / "00000020", folder / name)
  with Checkpointer(folder) as saver:
    restored = saver.restore(example(0))
  assert restored is not None
  newest = 20 if how is shutil.copytree else 10
  assert restored.metadata["step"] == newest
  assert bits(restored.state) == bits(example(newest))
  said = f"{name} is damaged (it is of step 20: the folder was renamed or copied)"
  assert (said in capsys.readouterr().err) == (int(name) > newest)


def test_another_way_to_write_a_step_is_no_checkpoint(tmp_path, two_checkpoints):
  shutil.copytree(two_checkpoints / "00000020", tmp_path / "000000020")
  assert Checkpointer(tmp_path).steps() == []


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("files", None),
    ("files", [1]),
    ("files", {"x": 1}),
    ("files", {"x": ["1", "2"]}),
    ("leaves", None),
    ("leaves", {"w": 1}),
    ("metadata", None),
    ("metadata", []),
    ("metric", "best"),
    ("step", None),
    ("step", "20"),
    ("version", None),
  ],
)
def test_a_list_of_contents_of_another_shape_is_damage(tmp_path, two_checkpoints, field, value):
  folder = tmp_path / "00000020"
  shutil.copytree(two_checkpoints / "00000020", folder)
  path = folder / checkpoint.FILE_NAME
  tree = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("digest", field)}
  tree |= {} if value is None else {field: value}
  path.write_text(json.dumps({**tree, "digest": checkpoint._digest(tree)}))
  for look in (checkpoint.read, checkpoint.verify):
    with pytest.raises(checkpoint.DamagedError, match=rf"lacks {field} as|of version None"):
      look(folder)


def test_several_damaged_ones_are_all_named(tmp_path, capsys):
  save_all(tmp_path, [1, 2, 3])
  for step in (2, 3):
    os.truncate(largest_file(tmp_path / f"0000000{step}"), 1)
  with Checkpointer(tmp_path) as saver:
    restored = saver.restore(example(0))
  assert restored is not None
  assert restored.metadata["step"] == 1
  text = capsys.readouterr().err
  assert len(text.splitlines()) == 1
  assert all(f"0000000{step}" in text for step in (1, 2, 3))


def test_nothing_intact_is_an_error_not_a_fresh_start(tmp_path, two_checkpoints):
  folder = tmp_path / "checkpoints"
  shutil.copytree(two_checkpoints, folder)
  for step in (10, 20):
    largest_file(folder / f"000000{step}").unlink()
  with (
    Checkpointer(folder) as saver,
    pytest.raises(CheckpointError, match=r"00000020 is damaged .*00000010 is damaged .*start anew"),
  ):
    saver.restore(example(0))


def test_a_damaged_best_falls_back_to_the_next_best(tmp_path, capsys):
  with Checkpointer(tmp_path, keep_last=9) as saver:
    for step, metric in {1: 2.0, 2: 1.0, 3: 3.0}.items():
      saver.save(step, {"x": jnp.int32(step)}, metric=metric)
    saver.wait()
    largest_file(tmp_path / "00000002").write_bytes(b"")
    best = saver.restore({"x": jnp.int32(0)}, which="best")
  assert best is not None
  assert best.metadata["step"] == 1
  assert "00000002 is damaged" in capsys.readouterr().err


def test_arrays_that_do_not_fit_are_named_and_are_not_taken_for_damage(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(1, {"w": jnp.zeros((2, 3)), "old": jnp.zeros(4, jnp.int32)})
    with pytest.raises(ValueError, match="holds other arrays than this run") as info:
      saver.restore({"w": jnp.zeros((3, 2)), "new": 1})
  assert "  - new: absent stored, int wanted" in str(info.value)
  assert "  - w: float32[2,3] stored, float32[3,2] wanted" in str(info.value)
  assert "  - old: int32[4] stored, absent wanted" in str(info.value)


@pytest.mark.parametrize("place", ["start", "arrays", "contents"])
def test_a_full_disk_is_a_clear_error_and_harms_nothing(tmp_path, monkeypatch, place):
  save_all(tmp_path, [1])
  saver = Checkpointer(tmp_path)
  orbax = saver._orbax()

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  def full_as_tensorstore_says(*args, **kwargs):
    raise ValueError(f"RESOURCE_EXHAUSTED: Error writing x: {os.strerror(errno.ENOSPC)} [OS]")

  if place == "start":
    monkeypatch.setattr(orbax, "save", full)
  elif place == "arrays":
    monkeypatch.setattr(orbax, "wait_until_finished", full_as_tensorstore_says)
  else:
    monkeypatch.setattr(os, "fsync", full)

  def save_and_wait():
    saver.save(2, example(2))
    saver.wait()

  with pytest.raises(
    CheckpointError, match=r"cannot save step 2 in .*disk is full; free .*step 1 "
  ):
    save_and_wait()
  monkeypatch.undo()
  orbax.wait_until_finished()
  assert saver.steps() == [1]
  restored = saver.restore(example(0))
  assert restored is not None
  assert bits(restored.state) == bits(example(1))
  saver.save(2, example(2))  # there is room again
  saver.close()
  assert sorted(os.listdir(tmp_path)) == ["00000001", "00000002"]


def test_orbax_does_not_log_what_it_raises(tmp_path):
  def is_shown(path):
    record = logging.LogRecord("absl", logging.ERROR, path, 1, "pages of text", None, None)
    return bool(logging.getLogger("absl").filter(record))

  with Checkpointer(tmp_path) as saver:
    saver.save(1, {"x": jnp.int32(1)})
    assert not is_shown("/x/orbax/checkpoint/future.py")
    assert is_shown("/x/other/future.py")
  assert is_shown("/x/orbax/checkpoint/future.py")


def test_threads_that_write_after_a_failed_save_say_nothing(tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(sys, "unraisablehook", said.append)
  with Checkpointer(tmp_path) as saver:
    saver.save(1, {"x": jnp.int32(1)})
  late = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
  other = types.SimpleNamespace(exc_value=RuntimeError("something else"))
  sys.unraisablehook(late)
  sys.unraisablehook(other)
  assert said == [other]


def test_a_failed_save_is_not_forgotten(tmp_path, monkeypatch):
  saver = Checkpointer(tmp_path)

  def full(*args, **kwargs):
    raise files.write_error("x", OSError(errno.ENOSPC, ""))

  monkeypatch.setattr(checkpoint, "write", full)
  saver.save(1, {"x": jnp.int32(1)})
  with pytest.raises(CheckpointError, match=r"disk is full.*there is no earlier checkpoint"):
    saver.save(2, {"x": jnp.int32(2)})
  monkeypatch.undo()
  saver.save(1, {"x": jnp.int32(1)})
  saver.close()
  assert saver.steps() == [1]


def test_saving_the_same_step_again_does_nothing(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(5, example(5))
    saver.save(5, example(6))
    restored = saver.restore(example(0))
    assert restored is not None
    assert bits(restored.state) == bits(example(5))
  with Checkpointer(tmp_path) as saver:
    saver.restore(example(0))
    saver.save(5, example(6))
    saver.save(6, example(6))
  assert saver.steps() == [5, 6]


def test_old_checkpoints_are_not_mixed_with_a_fresh_start(tmp_path):
  save_all(tmp_path, [10])
  with Checkpointer(tmp_path) as saver:
    for step in (9, 10):
      with pytest.raises(ValueError, match="holds a checkpoint of step 10, so step"):
        saver.save(step, example(0))


@pytest.mark.parametrize(
  ("state", "metadata", "message"),
  [
    ({"k": jax.random.key(0)}, {}, "typed keys are not stored"),
    ({"s": "text"}, {}, "expected arrays and numbers, got str"),
    ({}, {"step": 1}, "metadata may not hold step"),
    ({}, {"x": float("nan")}, "metadata is not JSON"),
  ],
)
def test_what_cannot_be_saved(tmp_path, state, metadata, message):
  with Checkpointer(tmp_path) as saver, pytest.raises(ValueError, match=message):
    saver.save(1, state, metadata=metadata)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_best": -1}])
def test_wrong_options(tmp_path, options):
  with pytest.raises(ValueError, match="expected keep_last >= 1"):
    Checkpointer(tmp_path, **options)


def test_left_overs_and_foreign_names_are_not_checkpoints(tmp_path):
  save_all(tmp_path, [1])
  shutil.copytree(tmp_path / "00000001", tmp_path / "00000002.partial")
  shutil.copytree(tmp_path / "00000001", tmp_path / "00000003.partial.orbax-checkpoint-tmp")
  (tmp_path / "notes").mkdir()
  with Checkpointer(tmp_path) as saver:
    assert saver.steps() == [1]
    saver.restore(example(0))
    assert len(os.listdir(tmp_path)) == 4  # reading changes nothing
    saver.save(2, example(2))
  assert sorted(os.listdir(tmp_path)) == ["00000001", "00000002", "notes"]


KILLED = """
import os, sys, time
import jax, jax.numpy as jnp
from mixboost_jax.runtime import checkpoint
saver = checkpoint.Checkpointer(sys.argv[1])
saver.save(1, {"w": jnp.arange(1000.0)})
saver.wait()
write = checkpoint.write
def slow(folder, contents):
  if sys.argv[2] == "after": write(folder, contents)
  print("writing", flush=True)
  time.sleep(60)
checkpoint.write = slow
saver.save(2, {"w": jnp.arange(1000.0) + 1})
if sys.argv[2] == "early":
  while len(os.listdir(sys.argv[1])) < 2: time.sleep(0.001)  # the writer has its own thread
  print("writing", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["early", "before", "after"])
def test_kill_9_while_saving(tmp_path, moment):
  child = subprocess.Popen(
    [sys.executable, "-c", KILLED, str(tmp_path), moment], stdout=subprocess.PIPE, text=True
  )
  assert child.stdout is not None
  assert child.stdout.readline() == "writing\n"
  child.send_signal(signal.SIGKILL)
  child.communicate()
  assert len(os.listdir(tmp_path)) == 2  # the killed save left something behind
  like = {"w": jnp.zeros(1000)}
  with Checkpointer(tmp_path) as saver:
    restored = saver.restore(like)
    assert restored is not None
    assert restored.metadata["step"] == 1
    np.testing.assert_array_equal(restored.state["w"], np.arange(1000.0))
    saver.save(2, like)
  assert sorted(os.listdir(tmp_path)) == ["00000001", "00000002"]
