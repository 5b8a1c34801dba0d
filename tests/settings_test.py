# SPDX-License-Identifier: Apache-2.0
"""Every wrong config gives its one clear line; all lines come at once."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from mixboost_jax import schema, settings
from mixboost_jax.configs import base


def resolved(overrides=None, **kwargs):
  return settings.resolve(base.override(base.get_config(), overrides or {}), **kwargs)


def test_defaults_resolve_and_are_frozen():
  run = resolved()
  assert run.mask.keep_rate == 0.7
  assert run.mask.mask_rate == 0.3
  with pytest.raises(dataclasses.FrozenInstanceError):
    run.train.batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
  ("given", "keep"),
  [({"mask.mask_rate": 0.7}, 0.3), ({"mask.keep_rate": 0.4}, 0.4), ({"mask.mask_rate": 0.1}, 0.9)],
)
def test_mask_rate_is_the_complement(given, keep):
  run = resolved({**given, "objective.name": "mixboost"})
  assert run.mask.keep_rate == keep
  assert run.mask.mask_rate == pytest.approx(1 - keep)


WRONG = [
  ({"seed": -1}, r"config.seed: expected an integer in \[0, 2\*\*31\), got -1"),
  ({"name": "a/b"}, "config.name: expected a word"),
  ({"data.name": "cifar"}, "config.data.name: expected one of .*did you mean 'cifar10"),
  ({"data.train_examples": -5}, "config.data.train_examples: expected a number >= 0, got -5"),
  ({"data.name": "tfds", "data.dir": "x"}, "config.data.tfds_name: needed with config.data.name"),
  ({"data.name": "folder"}, "config.data.dir: needed with config.data.name='folder'"),
  ({"data.texture_agreement": 1.2}, r"config.data.texture_agreement: expected .* \[0, 1\]"),
  (
    {"data.train_examples": 10, "data.validation_examples": 10, "train.batch_size": 1},
    "config.data.validation_examples: leaves nothing to train on",
  ),
  ({"model.dropout": 1.0}, r"config.model.dropout: expected a number in \[0, 1\), got 1.0"),
  (
    {"model.compute_dtype": "fp16"},
    "config.model.compute_dtype: expected one of float32, bfloat16",
  ),
  ({"model.std": (0.5, 0.0, 0.5)}, "config.model.std: expected 1 or 3 positive numbers"),
  ({"model.mean": (0.5,)}, "config.model.mean, config.model.std: lengths differ"),
  ({"augment.crop_padding": -1}, "config.augment.crop_padding: expected a number >= 0"),
  ({"mask.grid": 0}, "config.mask.grid: expected a number >= 1, got 0"),
  ({"mask.keep_rate": 1.5}, r"config.mask.keep_rate: expected a number in \[0, 1\], got 1.5"),
  (
    {"mask.keep_rate": 0.7, "mask.mask_rate": 0.3, "objective.name": "mixboost"},
    "mask.keep_rate and .*mask_rate: both given",
  ),
  ({"mask.fill": "white"}, "config.mask.fill: expected one of mean, black"),
  ({"objective.name": "mixbost"}, "config.objective.name: .*did you mean 'mixboost'"),
  ({"objective.name": "mixboost", "mask.keep_rate": 1.0}, "compares two different views"),
  ({"objective.name": "interaction"}, "low_weight, mid_weight, high_weight: at least one"),
  ({"objective.high_weight": 1.0}, "low_weight, mid_weight, high_weight: at least one"),
  ({"objective.low_rates": (0.5, 0.5)}, "config.objective.low_rates: expected .* r1 < r2"),
  ({"objective.label_smoothing": 1.0}, "config.objective.label_smoothing: expected"),
  ({"optimizer.learning_rate": 0.0}, "config.optimizer.learning_rate: expected a number > 0"),
  ({"optimizer.learning_rate": float("nan")}, "config.optimizer.learning_rate: expected"),
  ({"optimizer.momentum": 0.0}, "config.optimizer.nesterov=True needs"),
  ({"optimizer.final_learning_rate": 1.0}, "config.optimizer.final_learning_rate=1 is above"),
  ({"optimizer.milestones": (0.7, 0.2)}, "config.optimizer.milestones: expected increasing"),
  ({"train.steps": 10}, "config.train.epochs and config.train.steps: exactly one"),
  ({"train.epochs": 0.0}, "config.train.epochs and config.train.steps: exactly one"),
  ({"train.accumulate": 3}, "config.train.accumulate: 3 does not divide"),
  ({"train.batch_size": 0}, "config.train.batch_size: expected a number >= 1, got 0"),
  ({"train.batch_size": 64, "data.train_examples": 50}, "config.train.batch_size=64: larger than"),
  (
    {
      "objective.name": "mixboost",
      "train.batchnorm_views": "joint",
      "train.view_forward": "separate",
    },
    "one batch; it needs",
  ),
  ({"train.select_on": "validation"}, "needs config.data.validation_examples > 0"),
  ({"evaluate.split": "validation"}, "needs config.data.validation_examples > 0"),
  ({"evaluate.suite": "clean, r"}, "'r' .* needs config.evaluate.released_dir"),
  ({"evaluate.confidence": 1.0}, r"config.evaluate.confidence: expected a number in \(0, 1\)"),
  ({"runtime.fsdp": 0}, "config.runtime.fsdp: expected a number >= 1"),
  ({"report.num_samples": 1000}, r"config.report.num_samples: expected a number in \[0, 64\]"),
]


UNREAD = [
  ({"data.dir": "x"}, "config.data.name other than 'shapes', got 'shapes'"),
  ({"data.note": "JPEG"}, "config.data.name other than 'shapes', got 'shapes'"),
  ({"data.download": True}, "config.data.name='cifar10' or 'cifar100', got 'shapes'"),
  ({"data.tfds_name": "mnist"}, "config.data.name='tfds', got 'shapes'"),
  ({"data.stream": "off"}, "config.data.name='folder' or 'tfds', got 'shapes'"),
  ({"data.test_margin": 4}, "config.data.name='folder' or 'tfds', got 'shapes'"),
  ({"data.outlier_noise": 0.5}, "config.data.outliers > 0, got 0"),
  ({"augment.mixing_dir": "x"}, "config.augment.policy with pixmix, got {'name': 'none'}"),
  ({"augment.end": 0.5}, "config.augment.policy with a name, got {'name': 'none'}"),
  ({"augment.manifold_layers": (0,)}, "config.augment.manifold_alpha > 0, got 0.0"),
  ({"mask.fill": "learned"}, "config.objective.name other than 'erm', got 'erm'"),
  ({"mask.mask_rate": 0.7}, "config.objective.name='mixboost', got 'erm'"),
  ({"objective.boost_weight": 0.5}, "config.objective.name='mixboost', got 'erm'"),
  ({"objective.boost_on": "all"}, "config.objective.name other than 'erm', got 'erm'"),
  ({"objective.reduction_draws": 2}, "config.objective.reduction_weight > 0, got 0.0"),
  ({"adversary.epsilon": 0.5}, "config.adversary.name other than 'none', got 'none'"),
  ({"adversary.beta": 1.0}, "config.adversary.name='trades', got 'none'"),
  ({"optimizer.step_factor": 0.5}, "config.optimizer.schedule='step', got 'cosine'"),
  ({"train.view_forward": "fused"}, "config.objective.name other than 'erm', got 'erm'"),
  ({"interactions.attack_steps": 3}, "config.interactions.attack=True, got False"),
  ({"interactions.max_rounds": 3}, "config.interactions.target_stderr > 0, got 0.0"),
  ({"audit.figure_images": 3}, "config.audit.figures other than '', got ''"),
  ({"runtime.decode_threads": 3}, "config.data.name='folder' or 'tfds', got 'shapes'"),
]


@pytest.mark.parametrize(("overrides", "needs"), UNREAD, ids=lambda v: str(v)[:50])
def test_set_but_not_read_is_an_error(overrides, needs):
  with pytest.raises(settings.ConfigError) as caught:
    resolved(overrides)
  ((key, value),) = overrides.items()
  default = schema.defaults()
  for part in key.split("."):
    default = default[part]
  assert caught.value.problems == [
    f"config.{key}={value!r} is set but not read: that needs {needs}; change that, or leave "
    f"config.{key} at {default!r}"
  ]
  assert settings.resolve(base.override(base.get_config(), overrides), stored=True)


def test_two_conditions_the_first_that_fails_is_told():
  folder = {"data.name": "folder", "data.dir": "x"}
  with pytest.raises(settings.ConfigError, match=r"test_margin=4 .* config.data.image_size > 0"):
    resolved({**folder, "data.test_margin": 4})
  assert resolved({**folder, "data.test_margin": 4, "data.image_size": 32}).data.test_margin == 4


def test_with_several_runs_a_key_must_be_read_by_one_of_them():
  config = base.override(base.get_config(), {"mask.grid": 8})
  config.runs = ConfigDict({"erm": {}, "boost": {"objective": {"name": "mixboost"}}})
  assert [run.mask.grid for run in settings.resolve_runs(config)] == [8, 8]
  config.runs.erm = ConfigDict({"mask": {"grid": 4}})
  with pytest.raises(settings.ConfigError) as caught:
    settings.resolve_runs(config)
  (line,) = caught.value.problems
  assert line.startswith("runs.erm: config.mask.grid=4 is set but not read")
  config.runs = ConfigDict({"erm": {}, "again": {"seed": 1}})
  with pytest.raises(settings.ConfigError) as caught:
    settings.resolve_runs(config)
  (line,) = caught.value.problems
  assert line.startswith("config.mask.grid=8 is set but not read")


@pytest.mark.parametrize(
  ("runs", "message"),
  [
    (3, "config.runs: expected a mapping of runs, .* got 3"),
    ("boost", "config.runs: expected a mapping of runs, .* got 'boost'"),
    (("a", "b"), "config.runs: expected a mapping of runs"),
    ({"a": 3}, "config.runs.a: expected a mapping of sections, .* got 3"),
    ({"a": {}, "b": None}, "config.runs.b: expected a mapping of sections, .* got None"),
  ],
)
def test_runs_that_are_no_mapping(runs, message):
  with pytest.raises(settings.ConfigError, match=message) as caught:
    settings.resolve_runs({**base.get_config().to_dict(), "runs": runs})
  assert len(caught.value.problems) == 1


LONG = 10**400
WORSE = 10**5000  # Python writes no integer of more than 4,300 digits


@pytest.mark.parametrize(
  ("section", "key", "value", "message"),
  [
    ("train", "epochs", LONG, "expected an integer of at most 64 bits, got 1000"),
    ("train", "batch_size", WORSE, "at most 64 bits, got a number of more than 4,300 digits"),
    ("model", "mean", (0.5, WORSE, 0.5), "expected an integer of at most 64 bits"),
    ("augment", "manifold_layers", (LONG,), "expected an integer of at most 64 bits"),
    ("augment", "policy", {"name": "cutout", "length": LONG}, "an integer of at most 64 bits"),
    ("augment", "policy", {"name": "\ud800"}, r"text that UTF-8 can hold, got '\\ud800'"),
    ("data", "note", "a\udcff", r"expected text that UTF-8 can hold, got 'a\\udcff'"),
    ("data", "dir", "a\0b", r"expected text that UTF-8 can hold, got 'a\\x00b'"),
    ("evaluate", "ood_dirs", ("a", "\ud800"), "expected text that UTF-8 can hold"),
  ],
  ids=lambda value: "",
)
def test_values_that_no_file_can_hold(section, key, value, message):
  tree = base.get_config().to_dict()
  tree[section][key] = value
  with pytest.raises(settings.ConfigError, match=f"config.{section}.{key}: .*{message}") as caught:
    settings.resolve(tree)
  assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
  ("key", "value"), [("name", "a\ud800"), ("seed", WORSE), ("seed", LONG)], ids=lambda value: ""
)
def test_names_and_seeds_that_no_file_can_hold(key, value):
  with pytest.raises(settings.ConfigError, match=f"config.{key}: expected") as caught:
    settings.resolve({**base.get_config().to_dict(), key: value})
  assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("overrides", "message"), WRONG, ids=lambda v: str(v)[:50])
def test_one_clear_line(overrides, message):
  with pytest.raises(settings.ConfigError, match=message) as caught:
    resolved(overrides)
  assert len(caught.value.problems) == 1, caught.value.problems


def test_all_problems_at_once():
  overrides = {"mask.grid": 0, "train.steps": 5, "optimizer.name": "sdg", "objective.align": "x"}
  with pytest.raises(settings.ConfigError, match="4 problems in config 'base'") as caught:
    resolved(overrides)
  assert len(caught.value.problems) == 4


def test_unknown_and_missing_keys():
  tree = base.get_config().to_dict()
  tree["train"]["batchsize"] = tree["train"].pop("batch_size")
  tree["trian"] = {}
  del tree["report"]
  with pytest.raises(settings.ConfigError) as caught:
    settings.resolve(tree)
  text = "\n".join(caught.value.problems)
  assert "config.trian: unknown key; did you mean 'train'?" in text
  assert "config.train.batchsize: unknown key; did you mean 'batch_size'?" in text
  assert "config.train.batch_size: missing" in text
  assert "config.report: missing section" in text


@pytest.mark.parametrize(
  ("section", "key", "value", "message"),
  [
    ("train", "batch_size", "64", "expected int, got '64'"),
    ("train", "batch_size", True, "expected int, got True"),
    ("train", "share_dropout", 1, "expected bool, got 1"),
    ("model", "mean", 0.5, "expected a tuple of numbers, got 0.5"),
    ("augment", "policy", "cutout", "expected a mapping, got 'cutout'"),
    ("mask", "keep_rate", "half", "expected float, got 'half'"),
  ],
)
def test_wrong_types(section, key, value, message):
  tree = base.get_config().to_dict()
  tree[section][key] = value
  with pytest.raises(settings.ConfigError, match=f"config.{section}.{key}: {message}"):
    settings.resolve(tree)


def test_registry_checks_join_the_others():
  checks = {"model.name": lambda name: f"no network {name!r}"}
  with pytest.raises(settings.ConfigError) as caught:
    resolved({"mask.grid": 0}, checks=checks)
  assert caught.value.problems == [
    "config.model.name: no network 'wrn-40-4'",
    "config.mask.grid: expected a number >= 1, got 0",
  ]


def test_runs_are_laid_over_the_config_and_named():
  config = base.get_config()
  config.runs = ConfigDict(
    {
      "a": {"mask": {"grid": 4}, "objective": {"name": "mixboost"}},
      "b": {"augment": {"policy": {"name": "cutout", "length": 8}}, "seed": 3},
    }
  )
  first, second = settings.resolve_runs(config)
  assert (first.name, first.mask.grid, second.mask.grid) == ("base_a", 4, 16)
  assert second.augment.policy == {"name": "cutout", "length": 8}
  assert (first.seed, second.seed) == (0, 3)
  config.runs.a.mask.grid = 0
  with pytest.raises(settings.ConfigError, match=r"runs.a: config.mask.grid"):
    settings.resolve_runs(config)


def test_hash_and_difference_see_training_only():
  run, other = resolved(), resolved({"runtime.fsdp": 2, "evaluate.batch_size": 7})
  assert settings.config_hash(run) == settings.config_hash(other)
  assert settings.difference(run.to_json(), other.to_json()) == []
  changed = resolved({"train.batch_size": 64, "model.mean": (0.4, 0.5, 0.5)})
  assert settings.config_hash(run) != settings.config_hash(changed)
  assert settings.difference(run.to_json(), changed.to_json()) == [
    "model.mean: [0.5, 0.5, 0.5] -> [0.4, 0.5, 0.5]",
    "train.batch_size: 128 -> 64",
  ]


def test_where_a_known_set_lies_shapes_nothing():
  there = {"data.name": "cifar10", "data.dir": "there"}
  one, two = resolved(there), resolved({"data.name": "cifar10", "data.download": True})
  assert settings.config_hash(one) == settings.config_hash(two)
  assert settings.difference(one.to_json(), two.to_json()) == []
  one, two = (resolved({"data.name": "folder", "data.dir": place}) for place in ("a", "b"))
  assert settings.config_hash(one) != settings.config_hash(two)
  assert settings.difference(one.to_json(), two.to_json()) == ["data.dir: 'a' -> 'b'"]


def recorded_without(*options):
  """The tree that a version without these keys stored."""
  tree = resolved().to_json()
  for option in options:
    section, _, key = option.partition(".")
    if key:
      del tree[section][key]
    else:
      del tree[section]
  return tree


def test_options_that_an_old_config_does_not_name_were_left_out():
  old = recorded_without("adversary", "data.outliers", "objective.jsd_weight", "data.note")
  noted = dataclasses.replace(resolved().data, note="JPEG")
  assert settings.difference(old, dataclasses.replace(resolved(), data=noted).to_json()) == []
  # What matters only with an option had any value without it.
  unread = dataclasses.replace(resolved().adversary, epsilon=0.5)
  run = dataclasses.replace(resolved(), adversary=unread)
  assert settings.difference(old, run.to_json()) == []
  assert settings.difference(run.to_json(), old) == []
  assert settings.config_hash(run) == settings.config_hash(resolved())
  assert settings.unrecorded(old) == [
    "adversary.name='none'", "data.outliers=0", "objective.jsd_weight=0.0"
  ]  # fmt: skip
  assert settings.unrecorded(run.to_json()) == []
  used = resolved({"adversary.name": "at", "data.outliers": 5})
  assert settings.difference(old, used.to_json()) == [
    "adversary.name: 'none' -> 'at'",
    "data.outliers: 0 -> 5",
  ]
  assert settings.config_hash(used) != settings.config_hash(run)
  other = resolved({"adversary.name": "at", "adversary.epsilon": 0.5, "data.outliers": 5})
  assert settings.difference(used.to_json(), other.to_json()) == [
    "adversary.epsilon: 0.03137254901960784 -> 0.5"
  ]


def test_what_neither_side_reads_is_no_difference():
  """Folders of older versions hold such values."""
  old = resolved().to_json()
  old["mask"]["grid"], old["optimizer"]["step_factor"] = 8, 0.5
  assert settings.difference(old, resolved().to_json()) == []
  assert settings.difference(old, resolved({"objective.name": "mixboost"}).to_json()) == [
    "mask.grid: 8 -> 16",
    "objective.name: 'erm' -> 'mixboost'",
  ]


def test_other_keys_that_only_one_side_has_are_differences():
  old, new = recorded_without("train.ema_decay"), resolved().to_json()
  assert settings.difference(old, new) == ["train.ema_decay: 'absent' -> 0.0"]
  assert settings.difference(new, old) == ["train.ema_decay: 0.0 -> 'absent'"]


def test_an_option_takes_along_what_only_matters_with_it():
  found = {key: sorted(below - {key}) for key, (_, below) in settings._OPTIONS.items()}
  with_more = {
    key: [name.partition(".")[2] for name in more] for key, more in found.items() if more
  }
  assert with_more.pop("adversary.name") == sorted(
    field.name for field in dataclasses.fields(schema.Adversary) if field.name != "name"
  )
  assert with_more == {
    "augment.manifold_alpha": ["manifold_layers"],
    "augment.off_epochs": ["on_epochs"],
    "augment.generator": ["num_generated"],
    "data.outliers": ["outlier_noise"],
    "gan.features": ["fid_examples", "reference"],
    "gan.loss": ["penalty"],
    "interactions.and_or_players": ["and_or_noise"],
    "objective.reduction_weight": [
      "reduction_draws", "reduction_fraction", "reduction_stage", "reduction_units"
    ],
    "runtime.target": ["programs"],
  }  # fmt: skip


def test_a_folder_of_an_older_version_may_name_keys_that_are_gone():
  old = resolved().to_json()
  old["interactions"]["noise"] = 0.1
  assert settings.resolve(settings.recorded(old), stored=True) == resolved()
