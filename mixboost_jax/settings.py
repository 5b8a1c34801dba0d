# SPDX-License-Identifier: Apache-2.0
"""From the user's config to frozen dataclasses, with every problem reported at once.

Nothing below `resolve` sees a ConfigDict, and no key has a second default: the defaults are those
of `configs/base.py`. Names that need a registry are checked through the `checks` argument, so this
module imports no other box.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from mixboost_jax import rules
from mixboost_jax.schema import Check, Settings


class ConfigError(ValueError):
  """All problems of one config."""

  def __init__(self, problems: list[str], name: str = ""):
    self.problems = problems
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    where = f" {name!r}" if name else ""
    super().__init__(f"{count} in config{where}:\n" + "\n".join(f"  - {p}" for p in problems))


_SECTIONS: dict[str, Any] = {
  name: kind for name, kind in get_type_hints(Settings).items() if name not in ("name", "seed")
}
_FREE_SECTIONS = ("runtime", "report", "evaluate", "interactions", "audit")
"""Sections that may change between the parts of a resumed run: they do not touch training."""
_FREE_KEYS = ("data.note",)
_OPTIONS: Mapping[str, tuple[Any, str | tuple[str, ...]]] = {
  "adversary.name": ("none", "adversary."),
  "augment.manifold_alpha": (0, "augment.manifold_"),
  "augment.mixing_dir": ("", "augment.mixing_dir"),
  "augment.resized_crop": (0, "augment.resized_crop"),
  "augment.start": (0, "augment.start"),
  "augment.end": (1, "augment.end"),
  "data.stream": ("auto", "data.stream"),
  "data.test_margin": (0, "data.test_margin"),
  "augment.off_epochs": (0, ("augment.off_epochs", "augment.on_epochs")),
  "data.outliers": (0, "data.outlier"),
  "objective.boost_on": ("clean", "objective.boost_on"),
  "objective.jsd_weight": (0, "objective.jsd_weight"),
  "objective.reduction_weight": (0, "objective.reduction_"),
}
"""Key -> the value that leaves an option out, and how all keys begin that matter only with it.

A run folder whose `config.json` does not name such a key was made without the option. A key that is
added to the schema needs an entry here, or folders without it are refused.
"""


def resolve_runs(config: Any, *, checks: Mapping[str, Check] | None = None) -> tuple[Settings, ...]:
  """Resolves every run of a config: one per entry of `config.runs`, or the config itself.

  Raises:
    ConfigError: naming all problems of all runs.
  """
  tree = _plain(config)
  runs = tree.pop("runs", {})
  if not runs:
    return (resolve(tree, checks=checks),)
  resolved, problems = [], []
  for run_name, overrides in runs.items():
    try:
      resolved.append(resolve(_override(tree, run_name, overrides), checks=checks))
    except ConfigError as error:
      problems += [f"runs.{run_name}: {p}" for p in error.problems]
  if problems:
    raise ConfigError(list(dict.fromkeys(problems)), str(tree.get("name", "")))
  return tuple(resolved)


def resolve(config: Any, *, checks: Mapping[str, Check] | None = None) -> Settings:
  """Turns one config (a ConfigDict or nested dict) into frozen dataclasses.

  Args:
    config: every key of `configs/base.py`, none beside them.
    checks: extra checks by dotted key, e.g. `{"model.name": models.name_problem}`.

  Raises:
    ConfigError: listing all problems: unknown and missing keys, types, ranges, contradictions.
  """
  tree = _plain(config)
  tree.pop("runs", None)
  name, seed = tree.get("name"), tree.get("seed")
  problems = _unknown_keys(tree, [*_SECTIONS, "name", "seed"], "config")
  if not isinstance(name, str) or not name or set(name) & set('/\\:*?"<>| '):
    problems.append(f"config.name: expected a word that can name a folder, got {name!r}")
  if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
    problems.append(f"config.seed: expected an integer in [0, 2**31), got {seed!r}")
  sections: dict[str, Any] = {}
  for section, kind in _SECTIONS.items():
    given = tree.get(section)
    if not isinstance(given, dict):
      problems.append(f"config.{section}: missing section; start from configs/base.py")
      continue
    if section == "mask":
      given = _complete_mask(given, problems)
    values, found = _section(kind, given, f"config.{section}", checks or {})
    problems += found
    if not found:
      sections[section] = kind(**values)
  problems += rules.contradictions(sections)
  if problems:
    raise ConfigError(problems, str(name or ""))
  return Settings(name=str(name), seed=int(seed or 0), **sections)


def config_hash(settings: Settings) -> str:
  """Returns 12 hex digits that change when anything that shapes training changes."""
  text = json.dumps(_training_keys(settings.to_json()), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
  """Lists `key: before -> after` for all keys that shape training and differ.

  A key of `_OPTIONS` that one side does not name has the value there that leaves the option out.
  """
  old, new = _training_keys(before), _training_keys(after)
  for key, (out, below) in _OPTIONS.items():
    if (key in old) != (key in new):  # the keys of the option would only repeat that it changed
      for side in (old, new):
        value = side.get(key, out)
        _drop(side, below)
        side[key] = value
  return [
    f"{key}: {old.get(key, 'absent')!r} -> {new.get(key, 'absent')!r}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key, "absent") != new.get(key, "absent")
  ]


def unrecorded(before: Mapping[str, Any]) -> list[str]:
  """Lists the options that a stored config does not name: its run was made without them."""
  old = _flatten(before)
  return [f"{key}={out!r}" for key, (out, _) in _OPTIONS.items() if key not in old]


def recorded(before: Mapping[str, Any], *, defaults: Any = None) -> dict[str, Any]:
  """Returns the stored settings of a run as a config that `resolve` takes.

  Args:
    before: `settings` of its `config.json`. Options that it does not name were left out.
    defaults: a config with the values of all other keys that an older version did not have.
  """
  tree, base = _plain(before), _plain(defaults)
  for section in _SECTIONS:
    given = {**base.get(section, {}), **tree.get(section, {})}
    for key, (out, _) in _OPTIONS.items():
      first, _, last = key.partition(".")
      if first == section and last not in tree.get(section, {}):
        given[last] = out
    tree[section] = given
  tree["mask"]["mask_rate"] = None  # the folder keeps both rates, a config gives one
  return tree


def _training_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the dotted keys that shape training, without options that are left out."""
  kept = {key: value for key, value in tree.items() if key not in (*_FREE_SECTIONS, "name")}
  flat = _flatten(json.loads(json.dumps(kept)))
  for key in _FREE_KEYS:
    flat.pop(key, None)
  for key, (out, below) in _OPTIONS.items():
    if flat.get(key, out) == out:
      _drop(flat, below)
  return flat


def _drop(flat: dict[str, Any], below: str | tuple[str, ...]) -> None:
  for key in [key for key in flat if key.startswith(below)]:
    del flat[key]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat


def _plain(config: Any) -> dict[str, Any]:
  """Copies a ConfigDict or mapping into nested dicts with tuples for lists."""
  items: Any = config.items() if hasattr(config, "items") else ()
  return {
    str(key): _plain(value)
    if hasattr(value, "items")
    else tuple(_plain(item) if hasattr(item, "items") else item for item in value)
    if isinstance(value, list | tuple)
    else value
    for key, value in items
  }


def _override(tree: dict[str, Any], run_name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a copy of `tree` with the nested `overrides` laid over it."""
  merged = _plain(tree)
  merged["name"] = f"{tree.get('name', '')}_{run_name}"

  def lay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
      # A policy is replaced whole: its keywords belong to its name.
      if isinstance(value, dict) and isinstance(below.get(key), dict) and key != "policy":
        lay(below[key], value)
      else:
        below[key] = value

  lay(merged, overrides)
  return merged


def _unknown_keys(given: Mapping[str, Any], known: Iterable[str], place: str) -> list[str]:
  problems = []
  for key in given:
    if key not in known:
      close = difflib.get_close_matches(key, known, n=1)
      hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
      problems.append(f"{place}.{key}: unknown key{hint}")
  return problems


def _section(
  kind: Any, given: Mapping[str, Any], place: str, checks: Mapping[str, Check]
) -> tuple[dict[str, Any], list[str]]:
  fields = dataclasses.fields(kind)
  hints = get_type_hints(kind)
  problems = _unknown_keys(given, [f.name for f in fields], place)
  values: dict[str, Any] = {}
  for field in fields:
    where = f"{place}.{field.name}"
    if field.name not in given:
      problems.append(f"{where}: missing; start from configs/base.py")
      continue
    value, wrong = _typed(given[field.name], hints[field.name])
    check = field.metadata.get("check")
    wrong = wrong or (check(value) if check else None)
    extra = checks.get(where.removeprefix("config."))
    wrong = wrong or (extra(value) if extra else None)
    if wrong:
      problems.append(f"{where}: {wrong}")
    values[field.name] = value
  return values, problems


def _typed(value: Any, kind: Any) -> tuple[Any, str | None]:
  """Returns the value as `kind` (an int is a float too), and what is wrong with it."""
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value), None
  if kind in (int, float, bool, str):
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return value, None if fits else f"expected {kind.__name__}, got {value!r}"
  if kind == tuple[int, ...]:
    parts = value if isinstance(value, tuple) else (None,)
    fits = all(isinstance(v, int) and not isinstance(v, bool) for v in parts)
    return value, None if fits else f"expected a tuple of integers, got {value!r}"
  if kind == tuple[float, ...]:
    parts = value if isinstance(value, tuple) else (None,)
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in parts):
      return value, f"expected a tuple of numbers, got {value!r}"
    return tuple(float(v) for v in parts if v is not None), None
  if kind == tuple[str, ...]:
    fits = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    return value, None if fits else f"expected a tuple of words, got {value!r}"
  return value, None if isinstance(value, dict) else f"expected a mapping, got {value!r}"


def _complete_mask(given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
  """Makes `keep_rate` and `mask_rate` agree; an absent pair means the default of 0.7."""
  mask = dict(given)
  keep, drop = mask.get("keep_rate"), mask.get("mask_rate")
  if keep is not None and drop is not None:
    problems.append(
      f"config.mask.keep_rate and config.mask.mask_rate: both given ({keep!r}, {drop!r}); "
      "give one, mask_rate = 1 - keep_rate"
    )
  elif drop is not None:
    mask["keep_rate"] = _complement(drop)
  else:
    mask["keep_rate"] = 0.7 if keep is None else keep
    mask["mask_rate"] = _complement(mask["keep_rate"])
  return mask


def _complement(rate: Any) -> float:
  """Returns 1 - rate, or 0 for what the checks reject anyway."""
  return round(1.0 - rate, 12) if isinstance(rate, int | float) and 0 <= rate <= 1 else 0.0
