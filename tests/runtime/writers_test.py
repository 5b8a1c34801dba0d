# SPDX-License-Identifier: Apache-2.0
import errno
import io
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import files
from mixboost_jax.runtime import log, writers


def write_steps(path, steps, **options):
  with writers.MetricWriter(path, **options) as writer:
    for step in steps:
      writer.write_scalars(step, {"train/loss": 1 / step})


def test_one_record_per_line_complete_at_once(tmp_path):
  path = tmp_path / "run" / "metrics.jsonl"
  writer = writers.MetricWriter(path)
  writer.write_scalars(1, {"a": 2, "b": jnp.float32(0.1), "c": np.float64(1e-30), "d": True})
  assert json.loads(path.read_text()) == {
    "step": 1,
    "a": 2.0,
    "b": float(np.float32(0.1)),
    "c": 1e-30,
    "d": 1.0,
  }
  writer.write_scalars(2, {"a": jnp.nan, "b": -np.inf})
  writer.close()
  assert path.read_text().splitlines()[1] == '{"step": 2, "a": null, "b": null}'
  assert [record["step"] for record in writers.read(path)] == [1, 2]


def test_works_where_the_training_loop_forbids_transfers(tmp_path):
  loss = jnp.float32(0.25)
  with jax.transfer_guard("disallow"), writers.MetricWriter(tmp_path / "m.jsonl") as writer:
    writer.write_scalars(1, {"loss": loss})
  assert writers.read(tmp_path / "m.jsonl") == [{"step": 1, "loss": 0.25}]


def test_a_resumed_run_has_no_duplicates(tmp_path):
  path = tmp_path / "m.jsonl"
  write_steps(path, range(1, 11))
  whole = path.read_text()
  write_steps(path, range(7, 11), last_step=6)
  assert path.read_text() == whole
  write_steps(path, range(1, 11))  # restarted from nothing
  assert path.read_text() == whole


def test_a_line_cut_by_a_kill_is_dropped(tmp_path):
  path = tmp_path / "m.jsonl"
  write_steps(path, range(1, 4))
  whole = path.read_bytes()
  path.write_bytes(whole[:-9])
  assert [record["step"] for record in writers.read(path)] == [1, 2]
  write_steps(path, [3], last_step=2)
  assert path.read_bytes() == whole
  # Even if the cut line is of a step that is kept, the next record does not get glued to it.
  path.write_bytes(whole[:-9])
  write_steps(path, [4], last_step=3)
  assert [record["step"] for record in writers.read(path)] == [1, 2, 4]


def test_a_line_that_python_cannot_parse_is_dropped(tmp_path):
  path = tmp_path / "m.jsonl"
  write_steps(path, range(1, 3))
  with path.open("ab") as file:
    file.write(b"[" * 10**5 + b"\n")
  write_steps(path, [3], last_step=2)
  assert [record["step"] for record in writers.read(path)] == [1, 2, 3]


def test_dropping_is_atomic(tmp_path, monkeypatch):
  path = tmp_path / "m.jsonl"
  write_steps(path, range(1, 4))
  whole = path.read_bytes()

  def full(*args):
    raise OSError(errno.ENOSPC, "full")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(files.WriteError, match="the disk is full"):
    writers.MetricWriter(path, last_step=1)
  assert path.read_bytes() == whole
  assert os.listdir(tmp_path) == ["m.jsonl"]


@pytest.mark.parametrize("room", [0, 5])
def test_a_full_disk_while_writing(tmp_path, room):
  class Full(io.BytesIO):
    def write(self, content):
      if room == 0:
        raise OSError(errno.ENOSPC, "full")
      return super().write(content[:room])

  with writers.MetricWriter(tmp_path / "m.jsonl") as writer:
    writer._file.close()
    writer._file = Full()
    with pytest.raises(files.WriteError, match=r"m\.jsonl: the disk is full"):
      writer.write_scalars(1, {"a": 1})


@pytest.mark.parametrize(
  ("scalars", "message"),
  [
    ({"loss": np.zeros(2)}, r"loss: expected one number, got an array of shape \(2,\)"),
    ({"step": 1}, "cannot be called 'step'"),
  ],
)
def test_wrong_values(tmp_path, scalars, message):
  with writers.MetricWriter(tmp_path / "m.jsonl") as writer:
    with pytest.raises(ValueError, match=message):
      writer.write_scalars(1, scalars)
    assert (tmp_path / "m.jsonl").read_text() == ""


def test_curves(tmp_path):
  records = [
    {"step": 1, "train/loss": 2.0, "train/rate": 0.1},
    {"step": 1, "validation/error": 50.0},
    {"step": 2, "train/loss": None},
  ]
  assert writers.curve(records, "train/") == [
    {"step": 1, "loss": 2.0, "rate": 0.1},
    {"step": 2, "loss": None},
  ]
  assert writers.curve(records, "validation/") == [{"step": 1, "error": 50.0}]
  assert writers.curve(records) == records
  assert writers.read(tmp_path / "missing.jsonl") == []


def event_values(folder):
  """Reads event files without TensorBoard: length-delimited protos with checksums between."""
  from tensorboardX.proto import event_pb2

  found = []
  for path in sorted(folder.iterdir()):
    content, start = path.read_bytes(), 0
    while start < len(content):
      size = int.from_bytes(content[start : start + 8], "little")
      event = event_pb2.Event.FromString(content[start + 12 : start + 12 + size])
      found += [(event.step, v.tag, v) for v in event.summary.value]
      start += size + 16
  return found


def test_tensorboard_gets_the_same_numbers(tmp_path):
  events = tmp_path / "tensorboard"
  with writers.MetricWriter(tmp_path / "m.jsonl", tensorboard=events) as writer:
    writer.write_scalars(3, {"train/loss": 0.5})
  values = event_values(events)
  assert [(s, t, v.simple_value) for s, t, v in values if t == "train/loss"] == [
    (3, "train/loss", 0.5)
  ]


def test_no_tensorboard_writes_none(tmp_path):
  with writers.MetricWriter(tmp_path / "m.jsonl") as writer:
    writer.write_scalars(1, {"a": 0.5})
  assert os.listdir(tmp_path) == ["m.jsonl"]


def test_without_tensorboardx_there_is_one_warning(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  write_steps(tmp_path / "m.jsonl", [1, 2], tensorboard=tmp_path / "tensorboard")
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  assert "warning: no TensorBoard files: tensorboardX is not installed" in lines[0]
  assert os.listdir(tmp_path) == ["m.jsonl"]
  assert len(writers.read(tmp_path / "m.jsonl")) == 2


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(log, "is_primary", lambda: False)
  write_steps(tmp_path / "m.jsonl", [1], tensorboard=tmp_path / "tensorboard")
  assert os.listdir(tmp_path) == []
