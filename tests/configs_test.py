# SPDX-License-Identifier: Apache-2.0
"""Every config resolves, in every variant, and declares no key that the schema lacks."""

import dataclasses
import importlib
import pathlib

import pytest

from configs import base
from mixboost_jax import jobs, schema, settings
from mixboost_jax.train import optimizer

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


@pytest.mark.parametrize("name", ["imagenet", "mi_cifar10", "mi_cifar100"])
def test_boost_combines_with_every_recipe(name):
  module = importlib.import_module(f"configs.{name}")
  for word, keys in module.WORDS.items():
    (run,) = settings.resolve_runs(module.get_config(f"{word}+boost"), checks=jobs.CHECKS)
    assert run.objective.name == "mixboost"
    assert run.adversary.name == keys.get("adversary.name", "none")


def test_schedule_of_the_mixup_inference_paper():
  """Rate 0.01 (0.1 for IAT), divided by 10 at epochs 100 and 150 of 200."""
  for word, peak in (("mixup", 0.01), ("at", 0.01), ("iat", 0.1)):
    (run,) = settings.resolve_runs(importlib.import_module("configs.mi_cifar10").get_config(word))
    rate = optimizer.schedule(run.optimizer, 200)
    seen = [float(rate(epoch)) for epoch in (0, 99, 100, 149, 150, 199)]
    expected = [peak, peak, peak / 10, peak / 10, peak / 100, peak / 100]
    assert seen == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_smoke_is_small_and_needs_no_download(name):
  for run in settings.resolve_runs(importlib.import_module(f"configs.{name}").get_config("smoke")):
    assert (run.data.name, run.data.image_size) == ("shapes", 0)
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
