# SPDX-License-Identifier: Apache-2.0
"""Every config resolves, in every variant, and declares no key that the schema lacks."""

import dataclasses
import importlib
import pathlib

import pytest

from configs import base
from mixboost_jax import jobs, schema, settings

FILES = sorted(p.stem for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


def words(name):
  return ["", "smoke", *getattr(importlib.import_module(f"configs.{name}"), "WORDS", base.VARIANTS)]


@pytest.mark.parametrize(("name", "word"), [(name, word) for name in FILES for word in words(name)])
def test_resolves(name, word):
  config = importlib.import_module(f"configs.{name}").get_config(word)
  for run in settings.resolve_runs(config, checks=jobs.CHECKS):
    assert run.name.startswith(name)


@pytest.mark.parametrize("name", ["base", "cifar10", "cifar100"])
def test_boost_combines_with_every_policy(name):
  module = importlib.import_module(f"configs.{name}")
  for word, keys in base.VARIANTS.items():
    if "augment.policy" in keys:
      run = settings.resolve_runs(module.get_config(f"{word}+boost"))[-1]
      assert run.objective.name == "mixboost"
      assert run.augment.policy["name"] == keys["augment.policy"]["name"]


@pytest.mark.parametrize("name", FILES)
def test_smoke_is_small_and_needs_no_download(name):
  for run in settings.resolve_runs(importlib.import_module(f"configs.{name}").get_config("smoke")):
    assert run.data.name == "shapes"
    assert run.train.epochs * run.data.train_examples <= 5_000


def test_schema_and_base_declare_the_same_keys():
  config = base.get_config()
  for section in dataclasses.fields(schema.Settings):
    if section.name not in ("name", "seed"):
      kind = getattr(schema, section.name.capitalize())
      assert set(config[section.name]) == {field.name for field in dataclasses.fields(kind)}


def test_unknown_word_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"unknown bost; choose from smoke, baseline, .*boost"):
    base.get_config("bost+smoke")
