# SPDX-License-Identifier: Apache-2.0
"""What a run tells of its step: memory, before it starts and once it ran out, and compilations."""

import functools
import re

import jax
import pytest

from configs import base
from mixboost_jax import jobs, settings, train
from mixboost_jax.jobs import compile as compiling
from mixboost_jax.jobs import memory, prepared
from mixboost_jax.runtime import writers
from mixboost_jax.runtime.targets import GIB

TINY = {
  "name": "tiny",
  "data.train_examples": 256,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 64,
  "train.epochs": 0.0,
  "train.steps": 6,
  "train.log_every_steps": 2,
  "evaluate.batch_size": 16,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}


@pytest.fixture(scope="module")
def item(tmp_path_factory):
  (run,) = settings.resolve_runs(base.override(base.get_config(), TINY))
  return prepared.prepare(run, tmp_path_factory.mktemp("run"))


def needed(item):
  return compiling.compiled(memory.step_program(item))[1]["total"]


def test_the_estimate_and_the_first_step_share_one_compilation(item, compiled):
  trainer = item.trainer
  order = trainer.order(trainer.root, trainer.state.step)
  state = jax.tree.map(jax.numpy.copy, trainer.state)
  before = len(compiled)
  total = needed(item)
  assert len(compiled) == before + 1
  trainer.step(state, trainer.split, order, trainer.root)
  assert len(compiled) == before + 1
  own = sum(leaf.nbytes for leaf in jax.tree.leaves((trainer.state, trainer.split.images)))
  assert own < total < own + 64 * 2**20


def test_memory_is_told_where_devices_tell_theirs(item, capsys, monkeypatch):
  total = needed(item)
  memory.tell(item)
  assert capsys.readouterr().err == "", "a CPU host with enough"
  monkeypatch.setattr(memory, "_of_host", lambda: 8 * (total - 1))
  memory.tell(item)
  assert re.search(r"warning: tiny: a training step takes 0\.\d\d of", capsys.readouterr().err)
  monkeypatch.setattr(memory, "_of_host", lambda: None)
  memory.tell(item)
  assert capsys.readouterr().err == ""
  device = type("Device", (), {"platform": "gpu", "memory_stats": lambda _: {"bytes_limit": GIB}})()
  assert memory._of_device(device, 8) == GIB


EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.\nmore"


def test_out_of_memory_names_the_batch_that_fits(item, monkeypatch):
  """Between what batches of 32 and 64 need; the advice is checked by compiling it."""
  at = functools.cache(functools.partial(memory._at, item))
  monkeypatch.setattr(memory, "_at", lambda item, batch: at(batch))
  half, whole = at(32)["memory"]["total"], needed(item)
  limit = (half + whole) / 2 + 1

  def told(limit):
    monkeypatch.setattr(memory, "available", lambda mesh: limit)
    return str(memory.explained(item, jax.errors.JaxRuntimeError(EXHAUSTED)))

  text = told(limit)
  assert text.startswith("tiny: out of memory with config.train.batch_size=64: needs 0.")
  assert text.endswith("(RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.)")
  assert "--config.train.accumulate=2" in text
  found = re.search(r"--config\.train\.batch_size=(\d+) \((\d+) per chip\)", text)
  batch = int(found[1])
  assert batch == 48 == 8 * int(found[2])
  assert at(batch)["memory"]["total"] == pytest.approx(limit, rel=0.01)
  assert "and fits; lower config.evaluate.batch_size" in told(2 * whole)
  assert "use a smaller one, or --config.train.accumulate" in told(None)


@pytest.mark.parametrize(
  ("message", "kind", "told"),
  [
    (EXHAUSTED, ValueError, "this much fits"),
    ("INTERNAL: something else", jax.errors.JaxRuntimeError, "something else"),
  ],
)
def test_only_memory_that_ran_out_is_explained(tmp_path, monkeypatch, message, kind, told):
  def broken(*_, **__):
    raise jax.errors.JaxRuntimeError(message)

  monkeypatch.setattr(train, "run", broken)
  monkeypatch.setattr(memory, "tell", lambda item: None)
  monkeypatch.setattr(memory, "explained", lambda item, error: ValueError("this much fits"))
  config = base.override(base.get_config(), TINY)
  with pytest.raises(kind, match=told):
    jobs.run(config, folder=tmp_path, job="train", command="test")


def test_steps_are_profiled_and_nothing_is_compiled_again(tmp_path, capfd):
  asked = {**TINY, "runtime.profile_steps": 2, "train.evaluate_every_epochs": 0.5}
  config = base.override(base.get_config(), asked)
  assert jobs.run(config, folder=tmp_path, job="train", command="test") == 0
  rows = writers.read(tmp_path / "metrics.jsonl")
  counts = [row["recompilations"] for row in rows if "recompilations" in row]
  assert counts == [0, 0, 0]
  text = (tmp_path / "profile" / "operations.txt").read_text()
  assert "operations," in text
  assert re.search(r"^ +\d+\.\d% +\d+\.\d+ +\d+(\.5)?  \S+  jit\(run\)/", text, re.MULTILINE)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert "profile of 2 step(s) up to step 4" in capfd.readouterr().err


def test_a_step_that_is_compiled_again_is_told(item, capsys):
  """As if shapes changed: from step 4 on every call compiles something new."""
  calls, lines = [], []

  def step(*arguments):
    calls.append(1)
    if len(calls) > 3:
      jax.jit(lambda x: x + len(calls))(arguments[0].step)
    return item.trainer.step(*arguments)

  writer = type("Writer", (), {"write_scalars": lambda _, step, scalars: lines.append(scalars)})()
  saver = type("Saver", (), {"save": lambda *_, **__: None, "wait": lambda _: None})()
  train.run(item.trainer.replace(step=step), train.Hooks(writer=writer, saver=saver))
  assert [row["recompilations"] for row in lines] == [0, 1, 2]
  told = capsys.readouterr().err
  assert "warning: step 4: the training step was compiled again, 1 time(s) in 2 steps" in told
  assert "warning: step 6: the training step was compiled again, 2 time(s) in 2 steps" in told
