# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from mixboost_jax.runtime import targets


@pytest.mark.parametrize(
  ("name", "kind", "count", "sides"),
  [
    ("v5e-4", "v5e", 4, (2, 2)),
    ("v5e-8", "v5e", 8, (2, 4)),
    ("v5e-256", "v5e", 256, (16, 16)),
    ("v5p-8", "v5p", 4, (2, 2, 1)),  # named after its cores
    ("v5p-32", "v5p", 16, (2, 2, 4)),
    ("v6e", "v6e", 1, (1, 1)),
  ],
)
def test_slices_of_tpus(name, kind, count, sides):
  found = targets.parse(name)
  assert (found.kind, found.count, targets.torus(found)) == (kind, count, sides)
  assert found.with_count(count).name in (name, f"{name}-1")


def test_gpus_and_the_host():
  assert targets.parse("h100x8").count == 8
  assert targets.parse("a5000").count == 1
  assert targets.parse("cpu").chip.platform == "cpu"


@pytest.mark.parametrize(
  "name", ["v5e-3", "v5p-1", "h100x9", "h100x0", "cpux4", "b200", "v5e-", "x8"]
)
def test_what_is_no_target_is_told(name):
  assert repr(name) in (targets.problem(name) or "")


def test_no_target_is_no_problem():
  assert targets.problem("") is None
  assert targets.problem("v5e-16") is None


@pytest.mark.parametrize(("name", "extra"), [("v5e-4", "aot-tpu"), ("h100", "aot-cuda")])
def test_a_missing_compiler_is_named_with_the_way_to_install_it(monkeypatch, name, extra):
  monkeypatch.setattr(targets, "_compiler", lambda target: None)
  with pytest.raises(ValueError, match=rf"config\.runtime\.target={name}.*\[{extra}\]"):
    targets.devices(targets.parse(name))


def test_every_gpu_is_described_to_its_compiler():
  for kind, chip in targets.CHIPS.items():
    if chip.gpu:
      text = targets._cuda_config(chip)
      assert text.count("{") == text.count("}") == 4
      for field in dataclasses.fields(chip.gpu):
        assert field.name in text or field.name in ("device", "capability"), kind


def test_an_exchange_takes_what_a_ring_takes():
  """8 chips, all-reduce of 1 GB: each sends 2 * 7/8 GB, and waits for 7 neighbours."""
  target = targets.parse("h100x8")
  expected = 2 * 7 / 8 * 1e9 / 450e9 + 7 * 2e-6
  found = targets.exchange_seconds(target, [("all-reduce", 1, 1e9)])
  assert found == pytest.approx(expected)
  twice = targets.exchange_seconds(target, [("all-reduce", 2, 1e9)])
  assert twice - found == pytest.approx(7 * 2e-6)
  assert targets.exchange_seconds(targets.parse("h100"), [("all-reduce", 1, 1e9)]) == 0
