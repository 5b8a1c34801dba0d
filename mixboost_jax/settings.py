# SPDX-License-Identifier: Apache-2.0
"""From the user's config to frozen dataclasses, with every problem reported at once.

Nothing below `resolve` sees a ConfigDict. What a key means, its default and its rule stand in
`schema.py`. Names that need a registry are checked through the `checks` argument, so this module
imports no other box.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.util
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from mixboost_jax import rules
from mixboost_jax.schema import KEYS, READ_WHEN, SECTIONS, Check, ReadWhen, Settings, defaults


class ConfigError(ValueError):
  """All problems of one config."""

  def __init__(self, problems: list[str], name: str = ""):
    self.problems = problems
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    where = f" {name!r}" if name else ""
    super().__init__(f"{count} in config{where}:\n" + "\n".join(f"  - {p}" for p in problems))


_FREE_SECTIONS = ("runtime", "report", "evaluate", "interactions", "influence", "audit")
"""Sections that may change between the parts of a resumed run: they do not touch training."""
_FREE_KEYS = ("data.note", "gan.features", "gan.reference", "gan.fid_examples")
_GONE = ("interactions.noise",)
"""Keys of older run folders that no job reads any more."""
_KNOWN_SETS = ("cifar10", "cifar100", "tfds")
"""Sets that are the same wherever their files lie."""
STAND_IN = "-or-shapes"
"""End of `data.name`: the procedural set stands in until the place of the data is given."""
_OPTIONS: Mapping[str, tuple[Any, frozenset[str]]] = {
  option: (
    field.default,
    frozenset(
      key
      for key, conditions in READ_WHEN.items()
      if key == option or any(w.key == option and not w.holds(field.default) for w in conditions)
    ),
  )
  for option, field in sorted(KEYS.items())
  if field.metadata.get("option")
}
"""Key -> the value that leaves an option out, and all keys that matter only with the option.

A run folder whose `config.json` does not name such a key was made without the option.
"""


def load(text: str) -> Any:
  """Returns the config that `--config=FILE.py[:word+word]` names. Its file is executed.

  A file that does not exist in this folder is looked for among the shipped ones, so `demo` and
  `configs/demo.py` work everywhere.

  Raises:
    ValueError: if there is no such file, it refuses the words, or it fails.
  """
  name, colon, words = text.partition(":")
  module = load_module(name)
  with _naming_the_line(module.__file__):
    config = module.get_config(*([words] if colon else []))
  if not hasattr(config, "items"):
    raise ValueError(
      f"{module.__file__}: get_config returned {_shown(config)}; expected a ConfigDict."
    )
  return config


def load_module(name: str) -> Any:
  """Executes the file of a config, by path or shipped name; errors as of `load`."""
  path = _config_file(name)
  folder = str(path.parent.resolve())
  if folder not in sys.path:  # as for a script: what lies beside the file can be imported
    sys.path.append(folder)
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  with _naming_the_line(str(path)):
    spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"{path}: expected a function get_config, as in configs/base.py.")
  return module


@contextlib.contextmanager
def _naming_the_line(file: str) -> Iterator[None]:
  """Turns what goes wrong inside the file of a config into one line that says where."""
  try:
    yield
  except ValueError:
    raise
  except Exception as error:
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__, limit=-50)
      if os.path.abspath(frame.filename) == os.path.abspath(file)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or ["?"])[-1]
    raise ValueError(f"{file}, line {line}: {type(error).__name__}: {error}") from error


def key_problem(config: Any, key: str) -> str | None:
  """Returns why a dotted key cannot be set in a config, or None."""
  tree, place = _plain(config), "config"
  for name in key.split("."):
    if not isinstance(tree, dict):
      return f"{place} is {_shown(tree)}, which has no key {name!r}"
    if wrong := _unknown_keys([name], tree, place):
      return wrong[0]
    tree, place = tree[name], f"{place}.{name}"
  return None


def shipped() -> dict[str, pathlib.Path]:
  """Returns the configs of the package by name, studies last."""
  from mixboost_jax import configs

  folder = pathlib.Path(next(iter(configs.__path__)))
  found = [*sorted(folder.glob("[!_]*.py")), *sorted(folder.glob("studies/[!_]*.py"))]
  return {file.stem: file for file in found}


def _config_file(name: str) -> pathlib.Path:
  path = pathlib.Path(name).expanduser()
  if path.suffix == ".py" and path.is_file():
    return path
  known = shipped()
  here = path.parts[:-1] in ((), ("configs",), ("studies",), ("configs", "studies"))
  if here and path.suffix in ("", ".py") and path.stem in known:
    return known[path.stem]
  close = difflib.get_close_matches(path.stem, known, n=1)
  hint = f"did you mean {close[0]!r}? " if close else ""
  raise ValueError(
    f"no config file {name!r} (in {pathlib.Path.cwd()}); {hint}Give FILE.py[:word+word], or one of "
    f"the shipped ones: {', '.join(known)}."
  )


def resolve_runs(
  config: Any, *, checks: Mapping[str, Check] | None = None, read_when: ReadWhen | None = None
) -> tuple[Settings, ...]:
  """Resolves every run of a config, as `resolve` does: those of `config.runs`, or itself.

  A key that is set for all runs must be read by one of them, a key of one run by this run.

  Raises:
    ConfigError: naming all problems of all runs.
  """
  tree = _plain(config)
  tree.pop("study", None)
  runs = tree.pop("runs", None)
  if runs is None or runs == {}:
    return (resolve(tree, checks=checks, read_when=read_when),)
  each = (
    {f".{name}": given for name, given in runs.items()} if isinstance(runs, dict) else {"": runs}
  )
  if wrong := {place: given for place, given in each.items() if not isinstance(given, dict)}:
    raise ConfigError(
      [
        f"config.runs{place}: expected a mapping {'of sections' if place else 'of runs'}, e.g. "
        f"{{'boost': {{'objective': {{'name': 'mixboost'}}}}}}, got {_shown(given)}"
        for place, given in wrong.items()
      ],
      str(tree.get("name", "")),
    )
  tried = {name: _resolve(_override(tree, name, runs[name]), checks, read_when) for name in runs}
  by_none = set.intersection(*(set(found.unread) for found in tried.values()))
  problems = {
    name: found.problems
    + [line for key, line in found.unread.items() if key in by_none | flatten(runs[name]).keys()]
    for name, found in tried.items()
  }
  if any(problems.values()):
    first, *others = problems.values()
    shared = [line for line in first if all(line in found for found in others)]
    own = [
      f"runs.{name}: {p}" for name, found in problems.items() for p in found if p not in shared
    ]
    raise ConfigError(shared + own, str(tree.get("name", "")))
  return tuple(found.settings() for found in tried.values())


def resolve(
  config: Any,
  *,
  checks: Mapping[str, Check] | None = None,
  read_when: ReadWhen | None = None,
  stored: bool = False,
) -> Settings:
  """Turns one config (a ConfigDict or nested dict) into frozen dataclasses.

  Args:
    config: every key of the schema, none beside them.
    checks: extra checks by dotted key, e.g. `{"model.name": models.name_problem}`.
    read_when: conditions that need a registry, beside those of the schema.
    stored: whether it comes from a run folder. Older versions allowed keys that nothing reads.

  Raises:
    ConfigError: listing all problems: unknown and missing keys, types, ranges, contradictions, keys
      that are set but not read.
  """
  found = _resolve(_plain(config), checks, read_when)
  problems = found.problems + ([] if stored else list(found.unread.values()))
  if problems:
    raise ConfigError(problems, found.name)
  return found.settings()


@dataclasses.dataclass(frozen=True)
class _Resolved:
  """A config that was looked through, right or not; `unread` has one line for each such key."""

  name: str
  seed: Any
  sections: Mapping[str, Any]
  problems: list[str]
  unread: Mapping[str, str]

  def settings(self) -> Settings:
    return Settings(name=self.name, seed=self.seed, **self.sections)


def _resolve(
  tree: dict[str, Any], checks: Mapping[str, Check] | None, read_when: ReadWhen | None
) -> _Resolved:
  tree.pop("runs", None)
  name, seed = tree.get("name"), tree.get("seed")
  problems = _unknown_keys(tree, [*SECTIONS, "name", "seed"], "config")
  if not isinstance(name, str) or not name or set(name) & set('/\\:*?"<>| ') or _unwritable(name):
    problems.append(f"config.name: expected a word that can name a folder, got {_shown(name)}")
  if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
    problems.append(f"config.seed: expected an integer in [0, 2**31), got {_shown(seed)}")
  sections: dict[str, Any] = {}
  for section, kind in SECTIONS.items():
    given = tree.get(section)
    if not isinstance(given, dict):
      problems.append(f"config.{section}: missing section; start from configs/base.py")
      continue
    if section == "mask":
      given = _complete_mask(given, problems)
    if section == "data":
      given = _complete_data(given)
    values, found = _section(kind, given, f"config.{section}", checks or {})
    problems += found
    if not found:
      sections[section] = kind(**values)
  problems += rules.contradictions(sections)
  return _Resolved(str(name or ""), seed, sections, problems, _unread(tree, sections, read_when))


def _unread(
  tree: Mapping[str, Any], sections: Mapping[str, Any], read_when: ReadWhen | None
) -> dict[str, str]:
  """Returns what to say of each key that is set (other than its default) but not read."""
  valid = {name: vars(section) for name, section in sections.items()}
  lines, plain = {}, defaults()
  for key, when in rules.unread(valid, more=read_when).items():
    (section, name), (other, its_name) = (k.split(".") for k in (key, when.key))
    default = plain[section][name]
    if section in valid and tree[section][name] != default:
      lines[key] = (
        f"config.{key}={_shown(tree[section][name])} is set but not read: that needs "
        f"config.{when.key}{when.wanted}, got {_shown(valid[other][its_name])}; change that, or "
        f"leave config.{key} at {default!r}"
      )
  return lines


def config_hash(settings: Settings) -> str:
  """Returns 12 hex digits that change when anything that shapes training changes.

  For the record: whether a run may go on, `runtime/workdir.py` asks `difference`.
  """
  text = json.dumps(training_keys(settings.to_json()), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
  """Lists `key: before -> after` for all keys that shape training and differ.

  A key of `_OPTIONS` that one side does not name has the value there that leaves the option out. A
  key that neither side reads is no difference.
  """
  old, new = training_keys(before), training_keys(after)
  for key in rules.unread(before).keys() & rules.unread(after).keys():
    old.pop(key, None)
    new.pop(key, None)
  for key, (out, below) in _OPTIONS.items():
    if (key in old) != (key in new):  # the keys of the option would only repeat that it changed
      for side in (old, new):
        value = side.get(key, out)
        for each in below:
          side.pop(each, None)
        side[key] = value
  return [
    f"{key}: {old.get(key, 'absent')!r} -> {new.get(key, 'absent')!r}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key, "absent") != new.get(key, "absent")
  ]


def unrecorded(before: Mapping[str, Any]) -> list[str]:
  """Lists the options that a stored config does not name: its run was made without them."""
  old = flatten(before)
  return [f"{key}={out!r}" for key, (out, _) in _OPTIONS.items() if key not in old]


def recorded(before: Mapping[str, Any], *, defaults: Any = None) -> dict[str, Any]:
  """Returns the stored settings of a run as a config that `resolve` takes.

  Options that `before` does not name were left out; other keys that an older version did not have
  come from the config `defaults`.
  """
  tree, base = _plain(before), _plain(defaults)
  for section in SECTIONS:
    given = {**base.get(section, {}), **tree.get(section, {})}
    for key, (out, _) in _OPTIONS.items():
      first, _, last = key.partition(".")
      if first == section and last not in tree.get(section, {}):
        given[last] = out
    tree[section] = {key: v for key, v in given.items() if f"{section}.{key}" not in _GONE}
  tree["mask"]["mask_rate"] = None  # the folder keeps both rates, a config gives one
  return tree


def training_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the dotted keys that shape training, without options that are left out.

  Where the files of a known set lie is none of them: a run goes on, and counts, on any machine.

  Args:
    tree: stored settings, `Settings.to_json()`.
  """
  kept = {key: value for key, value in tree.items() if key not in (*_FREE_SECTIONS, "name")}
  flat = flatten(json.loads(json.dumps(kept)))
  places = ("data.dir", "data.download") if flat.get("data.name") in _KNOWN_SETS else ()
  for key in (*_FREE_KEYS, *places):
    flat.pop(key, None)
  for key, (out, below) in _OPTIONS.items():
    if flat.get(key, out) == out:
      for each in below:
        flat.pop(each, None)
  return flat


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns dotted key -> leaf of nested settings."""
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat


def _plain(config: Any) -> dict[str, Any]:
  """Copies a ConfigDict or mapping into nested dicts with tuples for lists."""

  def copied(value: Any) -> Any:
    if isinstance(value, list | tuple):
      return tuple(_plain(item) if hasattr(item, "items") else item for item in value)
    return _plain(value) if hasattr(value, "items") else value

  items: Any = config.items() if hasattr(config, "items") else ()
  return {str(key): copied(value) for key, value in items}


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


def _unknown_keys(given: Iterable[str], known: Iterable[str], place: str) -> list[str]:
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
    for check in (field.metadata.get("rule"), checks.get(where.removeprefix("config."))):
      wrong = wrong or (check(value) if check else None)
    if wrong:
      problems.append(f"{where}: {wrong}")
    values[field.name] = value
  return values, problems


_TUPLES = {
  tuple[int, ...]: (int, "integers"),
  tuple[float, ...]: (float, "numbers"),
  tuple[str, ...]: (str, "words"),
}


def _typed(value: Any, kind: Any) -> tuple[Any, str | None]:
  """Returns the value as `kind` (an int is a float too), and what is wrong with it."""
  if wrong := _unwritable(value):
    return value, wrong
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value), None
  if kind in (int, float, bool, str):
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return value, None if fits else f"expected {kind.__name__}, got {value!r}"
  if kind in _TUPLES:
    of, named = _TUPLES[kind]
    parts = [_typed(part, of) for part in value] if isinstance(value, tuple) else [(value, "none")]
    if any(wrong for _, wrong in parts):
      return value, f"expected a tuple of {named}, got {value!r}"
    return tuple(part for part, _ in parts), None
  return value, None if isinstance(value, dict) else f"expected a mapping, got {value!r}"


def _unwritable(value: Any) -> str | None:
  """Returns why no file can hold a value, or None; looks into mappings and sequences."""
  if isinstance(value, str) and ("\0" in value or value != value.encode(errors="ignore").decode()):
    return f"expected text that UTF-8 can hold, got {_shown(value)}"
  if isinstance(value, int) and not -(2**63) <= value < 2**63:
    return f"expected an integer of at most 64 bits, got {_shown(value)}"
  parts = (*value, *value.values()) if isinstance(value, dict) else value
  if isinstance(parts, tuple):
    return next(filter(None, map(_unwritable, parts)), None)
  return None


def in_words(value: Any) -> str:
  """Writes a value of a config; policies as calls: `pixmix(k=4)`."""
  if isinstance(value, Mapping):
    options = (f"{key}={in_words(each)}" for key, each in value.items() if key != "name")
    return f"{value.get('name', '')}({', '.join(options)})"
  if isinstance(value, list | tuple):
    return f"[{', '.join(map(in_words, value))}]"
  return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
  """Returns `repr`, but short."""
  try:
    text = repr(value)
  except ValueError:  # Python writes no integer of more than 4,300 digits
    return "a number of more than 4,300 digits"
  return text if len(text) <= 100 else f"{text[:100]}..."


def _complete_data(given: Mapping[str, Any]) -> dict[str, Any]:
  """Reads `NAME-or-shapes`: the procedural set, until the place of the data is given."""
  data = dict(given)
  name = data.get("name")
  if isinstance(name, str) and name.endswith(STAND_IN):
    named = data.get("dir") or data.get("download")
    data["name"] = name.removesuffix(STAND_IN) if named else "shapes"
  return data


def _complete_mask(given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
  """Makes `keep_rate` and `mask_rate` agree; an absent pair means the default."""
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
    mask["keep_rate"] = SECTIONS["mask"].keep_rate if keep is None else keep
    mask["mask_rate"] = _complement(mask["keep_rate"])
  return mask


def _complement(rate: Any) -> float:
  """Returns 1 - rate, or 0 for what the checks reject anyway."""
  return round(1.0 - rate, 12) if isinstance(rate, int | float) and 0 <= rate <= 1 else 0.0
