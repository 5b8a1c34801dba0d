# SPDX-License-Identifier: Apache-2.0
"""Studies: many runs, in order of importance, whose results fill a table.

  python -m mixboost_jax.main --job=study --config=configs/studies/table1.py --minutes=60 \
    --workdir=runs/table1 --results=results/studies/table1 --config.data.dir=DIR

A row is a name, the words of the recipe that make it, and keys beside them. Words after the colon
(`table1.py:smoke`) go to the recipe of all rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mixboost_jax.configs import base, speedrun

SMOKE: dict[str, Any] = {
  "data.train_examples": 160,
  "data.test_examples": 40,
  "train.batch_size": 16,
  "train.epochs": 1.0,
  "evaluate.batch_size": 40,
  "evaluate.max_examples": 40,
  "report.num_samples": 0,
  "runtime.tensorboard": False,
}

Keys = Mapping[str, Any]
Rows = Mapping[str, tuple[str, Keys]]
"""Name -> (words, dotted keys)."""


def _speedrun(words: str) -> ConfigDict:
  return speedrun.get_config(f"half+few+{words}")


def rows(*words: str) -> Rows:
  """Returns rows that are called like their words."""
  return {each.replace("+", "_"): (each, {}) for each in words}


def build(
  name: str,
  arg: str,
  *,
  blocks: Iterable[tuple[Rows, Sequence[int]]],
  jobs: Sequence[str],
  keys: Keys,
  smoke: Keys,
  recipe: Callable[[str], ConfigDict] = _speedrun,
) -> ConfigDict:
  """Returns the config of a study.

  Args:
    name: of the study; its runs are called NAME_ROW_seedN.
    arg: words for the recipe; `smoke` takes seed 0 of each row.
    blocks: rows and their seeds, the most important block first; in a block the first seed of all
      rows comes before the second.
    jobs: of each network after its training: evaluate, interactions, audit.
    keys: of all rows.
    smoke: what `smoke` changes of them, beside `SMOKE`.
    recipe: what trains the networks, from words; the small speedrun unless given.
  """
  small = "smoke" in arg.split("+")
  keys = {**keys, **SMOKE, **smoke} if small else keys

  def network(words: str, more: Keys) -> ConfigDict:
    return base.override(recipe("+".join(filter(None, (arg, words)))), {**keys, **more})

  config, runs = network("", {}), {}
  config.name = name
  for block, seeds in blocks:
    for seed in (0,) if small else seeds:
      for row, (words, more) in block.items():
        if small:
          more = {key: value for key, value in more.items() if key not in smoke}
        changed = _changes(config.to_dict(), {**network(words, more).to_dict(), "name": name})
        runs[f"{row}_seed{seed}"] = {**changed, "seed": seed}
  config.runs = ConfigDict(runs)
  config.study = ConfigDict({"order": tuple(runs), "jobs": tuple(jobs)})
  return config


def _changes(before: Keys, after: Keys) -> dict[str, Any]:
  """Returns what differs, as an entry of `config.runs`."""
  found: dict[str, Any] = {}
  for key, value in after.items():
    old = before.get(key)
    if key != "policy" and isinstance(value, dict) and isinstance(old, dict):
      if below := _changes(old, value):
        found[key] = below
    elif value != old:
      found[key] = value
  return found
