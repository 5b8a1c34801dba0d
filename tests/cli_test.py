# SPDX-License-Identifier: Apache-2.0
"""What the command line reads and answers."""

import os
import pathlib
import subprocess
import sys

import pytest

from mixboost_jax import __version__, cli, jobs, main, schema
from mixboost_jax.configs import base

ROOT = pathlib.Path(__file__).parents[1]


def keys(*words):
  config = cli.read(["--config=base", *words])["config"].to_dict()
  plain = base.get_config().to_dict()
  return {
    f"{section}.{key}": value
    for section, tree in config.items()
    if isinstance(tree, dict)
    for key, value in tree.items()
    if value != plain[section].get(key)
  }


@pytest.mark.parametrize(
  ("words", "changed"),
  [
    (["--config.train.epochs=3"], {"train.epochs": 3.0}),
    (["--config.train.batch_size", "8"], {"train.batch_size": 8}),
    (["-config.model.name=tiny-cnn"], {"model.name": "tiny-cnn"}),
    (["--config.optimizer.nesterov=no"], {"optimizer.nesterov": False}),
    (["--noconfig.augment.flip"], {"augment.flip": False}),
    (["--config.augment.flip", "--config.seed=3"], {}),
    (["--config.optimizer.learning_rate=1/4"], {"optimizer.learning_rate": 0.25}),
    (["--config.model.mean=0.1,0.2,0.3"], {"model.mean": (0.1, 0.2, 0.3)}),
    (["--config.model.mean=(0.1,)"], {"model.mean": (0.1,)}),
    (["--config.evaluate.ood_dirs=/a b,c"], {"evaluate.ood_dirs": ("/a b", "c")}),
    (["--config.evaluate.ood_dirs=a", "--config.evaluate.ood_dirs=b"],
     {"evaluate.ood_dirs": ("a", "b")}),
    (["--config.evaluate.max_examples", "-1"], {"evaluate.max_examples": -1}),
    (["--config.mask.keep_rate=0.5"], {"mask.keep_rate": 0.5}),
    (["--config.augment.policy={'name': 'cutout', 'length': 8}"],
     {"augment.policy": {"name": "cutout", "length": 8}}),
  ],
)  # fmt: skip
def test_values_have_the_kind_of_their_key(words, changed):
  assert keys(*words) == changed


def test_options_of_a_run():
  chosen = cli.read(["--job=study", "--minutes=1.5", "--config=demo:smoke", "--epoch", "2"])
  config = chosen.pop("config")
  assert config.name == "demo_smoke"
  assert chosen == {
    "workdir": "", "job": "study", "minutes": 1.5, "results": "", "epoch": 2, "example": 0
  }  # fmt: skip


def test_all_mistakes_come_at_once():
  words = ["--config=cifar10:bost", "--config.train.epoch=3", "--config.train.batch_size=x"]
  words += ["--config.optimizer.learning_rate=-1", "--confg=demo", "--job=trian", "demo"]
  with pytest.raises(cli.MistakesError) as caught:
    cli.read(words)
  lines = str(caught.value).splitlines()
  assert lines[0] == "7 mistakes:"
  for part in ("'boost'", "'epochs'", "batch_size: expected an integer", "rate: expected a number"):
    assert sum(part in line for line in lines) == 1, part
  for part in ("--confg", "'train'", "--config=demo"):
    assert any(part in line for line in lines), part


@pytest.mark.parametrize("word", ["--minutes=nan", "--minutes=inf", "--epoch=-1", "--epoch=1.5"])
def test_options_are_numbers_from_0_on(word):
  with pytest.raises(cli.MistakesError, match=f"{word.partition('=')[0]}: expected an? "):
    cli.read(["--config=demo", word])


def test_jobs_are_those_that_there_are():
  assert tuple(cli.JOBS) == jobs.JOBS


def test_every_key_has_a_meaning_a_default_and_a_range(capsys):
  meanings = schema.meanings()
  assert set(schema.KEYS) | set(schema.SECTIONS) | {"seed", "name"} <= set(meanings)
  assert [key for key, text in meanings.items() if len(text) < 5] == []
  assert main.main(["help", *schema.KEYS, "seed", "--config.name=x"]) == 0
  answers = capsys.readouterr().out
  assert answers.count("\n  default: ") == answers.count("\n  takes: ") == len(schema.KEYS) + 2


def test_help_of_a_key_and_of_a_section(capsys):
  assert main.main(["help", "mask.keep_rate"]) == 0
  assert capsys.readouterr().out.splitlines() == [
    "config.mask.keep_rate: fraction of cells kept",
    "  default: 0.7",
    "  takes: a number in [0, 1]",
    "  read only with config.objective.name='mixboost'",
  ]
  assert main.main(["help", "train"]) == 0
  assert "train.epochs" in capsys.readouterr().out
  assert main.main(["help", "runs"]) == 0
  assert "config.runs = ConfigDict(" in capsys.readouterr().out


def test_list_alone_says_what_can_be_listed(capsys):
  assert main.main(["list"]) == 0
  shown = capsys.readouterr().out.splitlines()
  assert [line.split()[2] for line in shown] == list(cli.LISTS)


@pytest.mark.parametrize(
  ("kind", "names"),
  [
    ("configs", {"demo", "cifar10", "table1"}),
    ("words", {"boost", "pixmix", "smoke"}),
    ("augmentations", {"pixmix", "augmix", "corrupt", "with_probability"}),
    ("corruptions", {"c", "c_bar", "p"}),
    ("suites", {"standard", "quick"}),
    ("models", {"wrn-D-K"}),
    ("attacks", {"apgd-ce", "square"}),
    ("defenses", {"mi-pl", "cifar10/iat"}),
    ("targets", {"v5e", "h100"}),
  ],
)
def test_lists(kind, names, capsys):
  assert main.main(["list", kind]) == 0
  assert names <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_words_of_one_config(capsys):
  assert main.main(["list", "words", "cifar10"]) == 0
  assert "\n  short " in capsys.readouterr().out


def test_help_and_version_come_at_once_and_without_jax():
  code = "import sys; from mixboost_jax import main; sys.argv[1:] = [{!r}]; main.run()"
  for word, part in (("--help", "show_augmentation"), ("--version", __version__)):
    before = os.times()
    command = [sys.executable, "-X", "importtime", "-c", code.format(word)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert part in done.stdout
    assert not any(line.endswith(" jax") for line in done.stderr.splitlines())
    spent = os.times()
    assert spent.children_user - before.children_user < 1  # seconds, whatever else runs here
