# SPDX-License-Identifier: Apache-2.0
import pytest

from mixboost_jax import registry


def test_lookup():
  assert registry.lookup({"a": 1}, "a", field="config.x") == 1


def test_unknown_name_lists_choices_and_the_closest():
  message = r"config.x: unknown name 'cutot'; choose one of cutmix, cutout, mixup. Did you mean"
  with pytest.raises(ValueError, match=message + " 'cutout'"):
    registry.lookup(dict.fromkeys(["mixup", "cutout", "cutmix"]), "cutot", field="config.x")
