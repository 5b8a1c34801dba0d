# SPDX-License-Identifier: Apache-2.0
"""`--job=audit` on a network that was trained for a moment."""

import os
import signal

import pytest

from configs import base
from mixboost_jax import jobs, settings
from mixboost_jax.audit import run
from mixboost_jax.jobs import audit
from mixboost_jax.runtime import interrupt, results

TINY = {
  "name": "tiny",
  "data.train_examples": 100,
  "data.test_examples": 20,
  "model.name": "tiny-cnn",
  "train.batch_size": 4,
  "train.epochs": 0.0,
  "train.steps": 2,
  "evaluate.batch_size": 20,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
  "audit.num_images": 4,
  "audit.defenses": "none,cifar10/at:mi-ol",
  "audit.attacks": "oblivious-1",
  "audit.num_draws": 2,
  "audit.redraws": 2,
}


def config(**overrides):
  return base.override(base.get_config(), {**TINY, **overrides})


def signal_when(monkeypatch, place, name, *, call):
  """Sends SIGTERM to this process at the given call of a function."""
  real, calls = getattr(place, name), []

  def counted(*args, **kwargs):
    calls.append(1)
    if len(calls) == call:
      os.kill(os.getpid(), signal.SIGTERM)
    return real(*args, **kwargs)

  monkeypatch.setattr(place, name, counted)


def test_audit_stops_on_request_and_goes_on(tmp_path, monkeypatch, capfd):
  assert jobs.run(config(), folder=tmp_path, job="train", command="train") == 0
  for call, finished in ((1, 1), (3, 3)):  # in the first batch of all, and after two attacks
    with monkeypatch.context() as patched:
      signal_when(patched, run.Runner, "_outcome", call=call)
      code = jobs.run(config(), folder=tmp_path, job="audit", command="audit")
    assert code == interrupt.EXIT_PREEMPTED
    assert not (tmp_path / "audit.json").exists()
    kept = tmp_path / "audit" / "units.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    assert sum('"sanity"' not in line for line in lines) == finished - 1
    said = capfd.readouterr().err
    assert "SIGTERM: saving and leaving" in said
    assert "finished attacks are kept in" in said
    assert "The same command goes on." in said
  assert jobs.run(config(), folder=tmp_path, job="audit", command="audit") == 0
  assert (tmp_path / "audit.json").exists()


def test_a_request_to_stop_leaves_the_figures_as_well(tmp_path, monkeypatch):
  changed = config(**{"audit.figures": "tradeoff", "audit.defenses": "cifar10/at:mi-ol"})
  assert jobs.run(changed, folder=tmp_path, job="train", command="train") == 0
  signal_when(monkeypatch, audit, "measure", call=1)
  code = jobs.run(changed, folder=tmp_path, job="audit", command="audit")
  assert code == interrupt.EXIT_PREEMPTED
  assert not (tmp_path / "audit.json").exists()


def test_audit_writes_results_that_the_report_reads(tmp_path):
  assert jobs.run(config(), folder=tmp_path, job="train", command="train") == 0
  before = sorted(tmp_path.iterdir())
  missing = config(**{"audit.defenses": "cifar10/at:mi-combined"})
  with pytest.raises(ValueError, match="unknown name 'mi-combined'"):
    jobs.run(missing, folder=tmp_path, job="audit", command="audit")
  assert sorted(tmp_path.iterdir()) == before
  assert jobs.run(config(), folder=tmp_path, job="audit", command="audit") == 0
  found = results.read(tmp_path / "audit.json")
  names = [f"audit/{d}/{a}" for d in ("none", "mi-ol")
           for a in ("clean", "oblivious-1", "worst-case", "claim")]  # fmt: skip
  assert [metric.name for metric in found.metrics] == names
  assert {metric.count for metric in found.metrics} == {4}
  assert found.curves["audit/policy/mi-ol"] == [{"step": 0, "mix_weight": 0.8, "num_draws": 2}]
  assert found.command == "audit"
  assert found.config_hash
  # The section may change afterwards: it does not touch training.
  assert jobs.run(config(**{"audit.redraws": 1}), folder=tmp_path, job="report", command="r") == 0
  assert "Defenses under attack" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
  ("overrides", "preset"),
  [
    ({}, "cifar10/erm"),
    ({"augment.policy": {"name": "mixup", "alpha": 1.0}}, "cifar10/mixup"),
    ({"adversary.name": "iat"}, "cifar10/iat"),
    ({"adversary.name": "at"}, "cifar10/at"),
    ({"adversary.name": "at", "data.name": "cifar100"}, "cifar100/iat"),
    ({"data.name": "cifar100"}, "cifar100/mixup"),
    ({"audit.preset": "cifar100/iat"}, "cifar100/iat"),
  ],
)
def test_the_preset_follows_data_and_training(overrides, preset):
  (resolved,) = settings.resolve_runs(config(**overrides), checks=jobs.CHECKS)
  assert audit.preset_of(resolved) == preset


def test_wrong_words_are_found_before_anything_runs():
  wrong = {
    "audit.defenses": "none,mi-lo",
    "audit.attacks": "oblivous",
    "audit.preset": "cifar11/at",
    "audit.figures": "fig2",
  }
  with pytest.raises(settings.ConfigError) as caught:
    settings.resolve_runs(config(**wrong), checks=jobs.CHECKS)
  for key in wrong:
    assert f"config.{key}" in str(caught.value)
