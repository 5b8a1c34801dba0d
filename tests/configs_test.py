# SPDX-License-Identifier: Apache-2.0
"""Every config resolves, in every variant."""

import importlib
import pathlib
import sys

import pytest

from mixboost_jax import jobs, schema, settings, train
from mixboost_jax.configs import base
from mixboost_jax.train.build import schedule

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
NEEDS_BOOST = ("mask70", "aligned")


OWN = """
from mixboost_jax.configs import base


def get_config(arg=""):
  return base.get_config(arg)
"""


def module_of(name):
  return importlib.import_module(f"mixboost_jax.configs.{name}")


def words(name):
  every = ["", "smoke", *getattr(module_of(name), "WORDS", base.VARIANTS)]
  return [f"boost+{word}" if word in NEEDS_BOOST else word for word in every]


def with_data(config):
  """ImageNet has no default place."""
  if config.data.name == "folder":
    config.data.dir = "imagenet"
  return config


@pytest.mark.parametrize(("name", "word"), [(name, word) for name in FILES for word in words(name)])
def test_resolves(name, word):
  config = with_data(module_of(name).get_config(word))
  for run in settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN):
    assert run.name.startswith(name)


@pytest.mark.parametrize("word", NEEDS_BOOST)
def test_a_word_that_nothing_reads_is_refused(word):
  with pytest.raises(settings.ConfigError, match=r"set but not read: that needs config.objective"):
    settings.resolve(base.get_config(f"pixmix+{word}"))


@pytest.mark.parametrize("name", ["base", "cifar10", "cifar100", "speedrun"])
def test_boost_combines_with_every_policy(name):
  module = module_of(name)
  for word, keys in base.VARIANTS.items():
    if "augment.policy" in keys:
      run = settings.resolve_runs(module.get_config(f"{word}+boost"))[-1]
      assert run.objective.name == "mixboost"
      assert run.augment.policy["name"] == keys["augment.policy"]["name"]


def test_any_two_augmentations_are_composed_in_the_order_of_their_words():
  """The composition of two augmentations is one (lecture of Eghbal-zadeh 2020)."""
  own = {
    word: keys["augment.policy"] for word, keys in base.VARIANTS.items() if "augment.policy" in keys
  }
  steps = {
    word: policy["steps"] if policy["name"] == "compose" else (policy,) * (policy["name"] != "none")
    for word, policy in own.items()
  }
  for first in own:
    for second in own:
      policy = base.get_config(f"{first}+{second}").augment.policy.to_dict()
      expected = (*steps[first], *steps[second])
      found = policy["steps"] if policy["name"] == "compose" else (policy,)
      assert tuple(found) == (expected or (base.NO_POLICY,)), (first, second)
      assert train.policy_problem(policy) is None
  run = settings.resolve(base.get_config("trivial+pixmix+boost"), checks=jobs.CHECKS)
  assert [one["name"] for one in run.augment.policy["steps"]] == ["trivial_augment_wide", "pixmix"]


@pytest.mark.parametrize("name", ["imagenet", "mi_cifar10", "mi_cifar100"])
def test_boost_combines_with_every_recipe(name):
  module = module_of(name)
  for word, keys in module.WORDS.items():
    config = with_data(module.get_config(f"{word}+boost"))
    (run,) = settings.resolve_runs(config, checks=jobs.CHECKS)
    assert run.objective.name == "mixboost"
    assert run.adversary.name == keys.get("adversary.name", "none")


def test_schedule_of_the_mixup_inference_paper():
  """Rate 0.01 (0.1 for IAT), divided by 10 at epochs 100 and 150 of 200."""
  for word, peak in (("mixup", 0.01), ("at", 0.01), ("iat", 0.1)):
    (run,) = settings.resolve_runs(module_of("mi_cifar10").get_config(word))
    rate = schedule(run.optimizer, 200)
    seen = [float(rate(epoch)) for epoch in (0, 99, 100, 149, 150, 199)]
    expected = [peak, peak, peak / 10, peak / 10, peak / 100, peak / 100]
    assert seen == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_smoke_is_small_and_needs_no_download(name):
  for run in settings.resolve_runs(module_of(name).get_config("smoke")):
    assert run.data.name == "shapes"
    assert run.data.image_size == (32 if name == "imagenet" else 0)
    assert run.train.epochs * run.data.train_examples <= 5_000


@pytest.mark.parametrize("name", sorted(set(FILES) - {"base", "demo"}))
@pytest.mark.parametrize("place", [{"data.dir": "here"}, {"data.dir": "x", "data.note": "JPEG"}])
def test_smoke_uses_the_data_that_it_is_given(name, place):
  module = module_of(name)
  (run,) = settings.resolve_runs(base.override(module.get_config("smoke"), place))
  assert run.data.name == module.get_config().data.name != "shapes"
  assert run.data.dir == place["data.dir"]
  assert run.data.train_examples == 2_000


def test_smoke_of_a_set_without_files_refuses_a_folder():
  for name in ("base", "demo"):
    config = base.override(module_of(name).get_config("smoke"), {"data.dir": "here"})
    with pytest.raises(settings.ConfigError, match=r"config.data.dir='here' is set but not read"):
      settings.resolve_runs(config)


@pytest.mark.parametrize(
  ("key", "value", "suite", "read"),
  [
    ("ood_dirs", ("here",), "standard", False),
    ("ood_dirs", ("here",), "clean, ood:here", True),
    ("ood_dirs", ("here",), "full", True),
    ("released_dir", "here", "clean,pgd", False),
    ("released_dir", "here", "c_generated,ood", False),
    ("released_dir", "here", "c:fog:3", True),
    ("released_dir", "here", "r", True),
  ],
)
def test_folders_of_an_evaluation_need_a_suite_that_reads_them(key, value, suite, read):
  overrides = {f"evaluate.{key}": value, "evaluate.suite": suite}
  config = base.override(base.get_config(), overrides)
  if read:
    assert settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)
    return
  with pytest.raises(
    settings.ConfigError, match=rf"config.evaluate.{key}=.* config.evaluate.suite"
  ):
    settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)


def test_smoke_changes_no_attack_that_is_not_made():
  plain = module_of("mi_cifar10").get_config("mixup+short+smoke").adversary
  assert plain == base.get_config().adversary
  attacked = module_of("mi_cifar10").get_config("short+at+smoke").adversary
  assert (attacked.num_steps, attacked.step_size) == (3, 2.5 / 255)


def test_every_condition_names_keys_of_the_schema():
  for key, conditions in (*schema.READ_WHEN.items(), *jobs.READ_WHEN.items()):
    assert {key, *(when.key for when in conditions)} <= schema.KEYS.keys()


@pytest.mark.parametrize(
  ("text", "stem"),
  [("demo", "demo"), ("demo.py:smoke", "demo"), ("configs/demo.py:smoke", "demo"),
   ("cifar10:pixmix+boost", "cifar10")],
)  # fmt: skip
def test_shipped_configs_are_found_from_any_folder(text, stem, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = settings.load(text)
  words = text.partition(":")[2]
  assert config.to_dict() == module_of(stem).get_config(words).to_dict()


def test_studies_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for text in ("configs/studies/table1.py:smoke", "studies/table1.py:smoke", "table1:smoke"):
    assert settings.load(text).name == "table1"


def test_a_config_finds_what_lies_beside_it_and_errors_name_the_line(tmp_path, monkeypatch):
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "beside_it.py").write_text("RATE = 0.25\n")
  file = tmp_path / "mine" / "own.py"
  file.write_text(
    "from mixboost_jax.configs import base\nimport beside_it\n\n"
    "def get_config(arg=''):\n"
    "  return base.override(base.get_config(), {'optimizer.learning_rate': beside_it.RATE})\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  assert settings.load("mine/own.py").optimizer.learning_rate == 0.25
  file.write_text("import os\nimport nothing_beside_it\n")
  with pytest.raises(ValueError, match=r"mine/own\.py, line 2: ModuleNotFoundError"):
    settings.load("mine/own.py")


def test_a_file_of_the_folder_comes_before_a_shipped_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs/demo.py").write_text(OWN)
  assert settings.load("configs/demo.py:boost").name == "base_boost"
  assert settings.load("demo").name == "demo"


@pytest.mark.parametrize("text", ["dmo", "mine/demo.py", "demo.txt", "", "configs/"])
def test_a_config_that_does_not_exist_names_the_shipped_ones(text, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r"no config file .*: base, cifar10, .*demo"):
    settings.load(text)


def test_unknown_word_lists_the_known_ones():
  with pytest.raises(
    ValueError, match=r"unknown bost .did you mean .boost.*smoke, baseline, .*boost"
  ):
    base.get_config("bost+smoke")
