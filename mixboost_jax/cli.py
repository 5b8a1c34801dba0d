# SPDX-License-Identifier: Apache-2.0
"""What may be typed: options of a run, read with all mistakes at once, and commands that answer.

Nothing here imports JAX before it is needed, so help comes at once.
"""

import ast
import dataclasses
import difflib
import fractions
import math
import os
import pathlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

import mixboost_jax
from mixboost_jax import schema
from mixboost_jax import settings as settings_lib
from mixboost_jax.schema import KEYS, SECTIONS

JOBS: Mapping[str, str] = {
  "all": "train, evaluate and write the report (the default)",
  "train": "train only; the same command goes on after a stop",
  "evaluate": "measure the trained network by config.evaluate.suite",
  "interactions": "J^(m) of every order, a map and a tree of one picture",
  "influence": "which training pictures help or harm the trained network",
  "audit": "attack every defense of the trained network",
  "gan": "train a label-conditional GAN, whose pictures can augment",
  "study": "many runs in order of importance, on any number of workers",
  "report": "write report.html from what was measured",
  "show_augmentation": "what training does to one picture",
  "compile": "what the run needs on chips that are not here",
}


@dataclasses.dataclass(frozen=True)
class Option:
  """One `--name=value` that is no key of the config."""

  kind: type
  default: Any
  meaning: str
  choices: tuple[str, ...] = ()


OPTIONS: Mapping[str, Option] = {
  "config": Option(str, "", "experiment: NAME or FILE.py, then :word+word"),
  "workdir": Option(str, "", "run folder; default runs/<name of the config>"),
  "job": Option(str, "all", "what to do", tuple(JOBS)),
  "minutes": Option(float, 0.0, "study: save and leave after so long; 0: never"),
  "results": Option(str, "", "study: folder of small files that outlive runs"),
  "epoch": Option(int, 0, "show_augmentation: which epoch, from 0"),
  "example": Option(int, 0, "show_augmentation: id of a training example"),
}
COMMON = ("data.name", "data.dir", "model.name", "train.epochs", "train.batch_size")
COMMON += ("optimizer.learning_rate", "evaluate.suite", "evaluate.budget", "seed")
LISTED = {
  "model.name": "models",
  "augment.policy": "augmentations",
  "evaluate.suite": "suites",
  "audit.attacks": "attacks",
  "audit.defenses": "defenses",
  "audit.preset": "defenses",
  "runtime.target": "targets",
}
"""Keys whose values `mixboost list` shows."""


class MistakesError(ValueError):
  """All that is wrong with a command line."""

  def __init__(self, problems: Sequence[str]):
    lines = list(dict.fromkeys(problems))
    many = f"{len(lines)} mistakes:\n" + "\n".join(f"  - {line}" for line in lines)
    super().__init__(lines[0] if len(lines) == 1 else many)


# Reading.


def read(arguments: Sequence[str]) -> dict[str, Any]:
  """Returns the options by name; `config` is the config with its keys set.

  Raises:
    MistakesError: with every mistake that can be seen before the data are.
  """
  problems: list[str] = []
  given = list(_split(arguments, problems))
  chosen = {name: option.default for name, option in OPTIONS.items()}
  for name, text in given:
    if name in OPTIONS:
      chosen[name] = text
  config, whole = _config(chosen["config"], problems)
  keys: dict[str, list[str]] = {}
  for name, text in given:
    if name.startswith("config."):
      keys.setdefault(name.removeprefix("config."), []).append(text)
    elif name in OPTIONS:
      chosen[name], problem = _option(name, text)
      problems += [problem] if problem else []
    else:
      problems.append(f"--{name}: unknown option{_nearest_option(name)}")
  problems += [problem for key, texts in keys.items() if (problem := _set(config, key, texts))]
  if problems:
    problems += _of_config(config, None if whole else keys)
    raise MistakesError(problems)
  return {**chosen, "config": config}


def _split(arguments: Sequence[str], problems: list[str]) -> Iterator[tuple[str, str]]:
  """Yields name and value of `--name=value`, `--name value`, `--name` and `--noname`."""
  waiting = list(arguments)
  while waiting:
    word = waiting.pop(0)
    name, equals, text = word.lstrip("-").partition("=")
    if not word.startswith("-") or not name:
      problems.append(f"{word!r}: options are written --name=value{_nearest_word(word)}")
    elif equals:
      yield name, text
    elif _is_switch(name):
      yield name, "true"
    elif name.startswith("no") and _is_switch(name[2:]):
      yield name[2:], "false"
    elif waiting and not re.match(r"--?[a-zA-Z]", waiting[0]):
      yield name, waiting.pop(0)
    elif name in OPTIONS or name.startswith("config."):
      problems.append(f"--{name}: has no value; write --{name}=VALUE")
    else:
      problems.append(f"--{name}: unknown option{_nearest_option(name)}")


def _is_switch(name: str) -> bool:
  field = KEYS.get(name.removeprefix("config."))
  return name.startswith("config.") and field is not None and isinstance(field.default, bool)


def _config(text: str, problems: list[str]) -> tuple[Any, bool]:
  """Returns the config, and whether it is the one that was meant."""
  from ml_collections import ConfigDict

  if not text:
    problems.append("--config is missing; start with --config=demo (mixboost list configs)")
  for attempt in (text, text.partition(":")[0], "base"):
    try:
      return ConfigDict(settings_lib.load(attempt)).lock(), attempt == text
    except ValueError as error:
      problems += [f"--config={text}: {error}"] if attempt == text and text else []
  raise MistakesError(problems)


def _option(name: str, text: str) -> tuple[Any, str | None]:
  option = OPTIONS[name]
  value, problem = _value(text, option.kind)
  if problem is None and option.kind is not str and not 0 <= value < math.inf:
    problem = f"expected a number >= 0, got {text!r}"
  if option.choices and text not in option.choices:
    hint = _close(text, option.choices)
    problem = f"expected one of {', '.join(option.choices)}, got {text!r}{hint}"
  return value, f"--{name}: {problem}" if problem else None


def _set(config: Any, key: str, texts: Sequence[str]) -> str | None:
  """Sets a dotted key; returns what is wrong with it, or None."""
  if problem := settings_lib.key_problem(config, key):
    hint = "" if "did you mean" in problem else _nearest_option(key)
    return (re.sub(r"; known: .*", "", problem) if hint else problem) + hint
  *parents, last = key.split(".")
  node = config
  for name in parents:
    node = node[name]
  section = ".".join(parents)
  declared = get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
  plain = declared.get(last) in (int, float, bool, str)  # a placeholder has no other type
  kind = declared[last] if plain else type(node[last])
  value, problem = _value(",".join(texts) if issubclass(kind, tuple | list) else texts[-1], kind)
  if problem is None:
    try:
      node[last] = value
    except (TypeError, ValueError) as error:
      problem = str(error)
  if problem and key == "augment.policy":
    problem += "; or name a word: --config=NAME:pixmix (mixboost list words)"
  return f"--config.{key}: {problem}" if problem else None


_TRUE, _FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no")


def _value(text: str, kind: type) -> tuple[Any, str | None]:
  """Returns a typed value as `kind`, and what is wrong with it."""
  wanted = "a Python value"
  try:
    if kind is str:
      return text, None
    if kind is bool:
      wanted = "true or false"
      return (*_FALSE, *_TRUE).index(text.lower()) >= len(_FALSE), None
    if kind is int:
      wanted = "an integer"
      return int(text), None
    if kind is float:
      wanted = "a number such as 0.1, 1e-4 or 8/255"
      return float(fractions.Fraction(text)) if "/" in text else float(text), None
    if issubclass(kind, tuple | list):
      return _several(text), None
    if hasattr(kind, "items"):
      from ml_collections import ConfigDict

      wanted = "a mapping such as {'name': 'pixmix'}"
      return ConfigDict(dict(ast.literal_eval(text))), None
    return ast.literal_eval(text), None
  except (ValueError, TypeError, SyntaxError, ArithmeticError):
    return None, f"expected {wanted}, got {text[:60]!r}"


def _several(text: str) -> tuple[Any, ...]:
  try:
    values = ast.literal_eval(f"({text},)") if text.strip() else ()
  except (ValueError, SyntaxError):
    return tuple(part.strip() for part in text.split(","))
  first = values[0] if len(values) == 1 else values
  return tuple(first) if isinstance(first, tuple | list) else tuple(values)


def _of_config(config: Any, keys: Iterable[str] | None) -> list[str]:
  """Returns what else is wrong: in the whole config, or with these keys of another one."""
  from mixboost_jax import jobs

  try:
    settings_lib.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)
  except settings_lib.ConfigError as error:
    starts = None if keys is None else tuple(f"config.{key}:" for key in keys)
    return [line for line in error.problems if starts is None or line.startswith(starts)]
  return []


def _close(text: str, known: Iterable[str]) -> str:
  close = difflib.get_close_matches(text, list(known), n=1)
  return f"; did you mean {close[0]!r}?" if close else ""


def _nearest_option(name: str) -> str:
  """Returns "; did you mean ..." of an option or key that looks like a name, or nothing."""
  name = name.removeprefix("config.")
  of_last = {key.rpartition(".")[2]: key for key in reversed(list(KEYS))}
  for known in (KEYS, of_last):
    if name in known:
      return f"; did you mean --config.{of_last.get(name, name)}?"
  options = {**{key: f"config.{key}" for key in KEYS}, **{o: o for o in OPTIONS}}
  options |= {last: f"config.{key}" for last, key in of_last.items() if last not in options}
  close = difflib.get_close_matches(name, list(options), n=1)
  return f"; did you mean --{options[close[0]]}?" if close else ""


def _nearest_word(word: str) -> str:
  for option, known in (("job", JOBS), ("config", settings_lib.shipped())):
    if close := difflib.get_close_matches(word.partition(":")[0], list(known), n=1):
      return f"; did you mean --{option}={close[0]}?"
  commands = difflib.get_close_matches(word, list(COMMANDS), n=1)
  return f"; did you mean mixboost {commands[0]}?" if commands else ""


# Answers.


def show_help(arguments: Sequence[str] = ()) -> int:
  """Prints what can be typed, or what is known of one key or section."""
  names = [name.lstrip("-").removeprefix("config.").partition("=")[0] for name in arguments]
  return _tell("\n".join(map(_about, names)) if names else overview())


def overview() -> str:
  """Returns jobs, configs, the commonest keys and the other commands."""
  meanings = schema.meanings()
  plain = {key: f"{meanings[key]} ({_default(key)!r})" for key in COMMON}
  options = {f"--{name}": option.meaning for name, option in OPTIONS.items()}
  parts = [
    "mixboost: robust image classification by boosted data augmentation.",
    _columns(
      {
        "mixboost --config=demo": "runs everything once, without a download",
        "mixboost --config=cifar10:pixmix+boost": "words of a config change it",
        f"mixboost list {'|'.join(LISTS)}": "",
        "mixboost help KEY|SECTION": "meaning, default and range of a config key",
        "mixboost inspect FOLDER|FILE": "what is in it, and the line that reads it",
        "mixboost --version": "",
      },
      width=40,
    ),
    "Options:\n" + _columns(options),
    "Jobs (--job=JOB):\n" + _columns(JOBS),
    "Configs (--config=NAME):\n" + _columns(_configs()),
    "Commonest keys (--config.KEY=VALUE), and their defaults:\n" + _columns(plain),
    f"Sections of keys: {', '.join(SECTIONS)}.",
  ]
  return "\n\n".join(parts)


RUNS = (
  "config.runs: several runs by one command: name -> what changes for it, as in configs/demo.py:\n"
  "  config.runs = ConfigDict({'seed0': {'seed': 0}, 'seed1': {'seed': 1}})\n"
  "They are trained one after the other, each in its folder below --workdir, and share a report."
)


def _about(name: str) -> str:
  """Returns all that is known of a key, or the keys of a section."""
  meanings = schema.meanings()
  if name in SECTIONS:
    keys = {
      key: f"{meanings[key]} ({_default(key)!r})" for key in KEYS if key.startswith(f"{name}.")
    }
    return f"config.{name}: {meanings[name]}\n{_columns(keys)}"
  if name == "runs":
    return RUNS
  if name not in meanings:
    hint = _nearest_option(name).replace("--config.", "")
    raise ValueError(f"help: no config key {name!r}{hint or '; sections: ' + ', '.join(SECTIONS)}")
  lines = [f"config.{name}: {meanings[name]}", f"  default: {_default(name)!r}"]
  field = KEYS.get(name)
  rule = field.metadata.get("rule") if field else None
  lines.append(f"  takes: {getattr(rule, 'wanted', '') or _kind_in_words(name)}")
  if field:
    conditions = " and ".join(f"config.{w.key}{w.wanted}" for w in field.metadata.get("when", ()))
    lines += [f"  read only with {conditions}"] if conditions else []
  if name in LISTED:
    lines.append(f"  names: mixboost list {LISTED[name]}")
  return "\n".join(lines)


def _default(key: str) -> Any:
  field = KEYS.get(key)
  if field is None:
    return schema.defaults()[key]
  has_one = field.default is not dataclasses.MISSING
  return field.default if has_one else schema.defaults()["augment"]["policy"]


def _kind_in_words(key: str) -> str:
  value = _default(key)
  words = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
  words |= {tuple: "values with commas between", dict: "a mapping such as {'name': 'pixmix'}"}
  return words.get(type(value), "a value")


def show_list(arguments: Sequence[str]) -> int:
  """Prints the names of one kind: `list configs`; `list words CONFIG` those of one config."""
  if not arguments:
    return _tell(
      _columns({f"mixboost list {name}": what for name, what in LISTS.items()}, width=30)
    )
  kind, *rest = arguments
  if kind not in LISTS or rest[1:] or (rest and kind != "words"):
    known = ", ".join(LISTS)
    raise ValueError(
      f"list: expected one of {known}, got {' '.join(arguments)!r}{_close(kind, LISTS)}"
    )
  if kind in ("configs", "words"):
    return _tell(_columns(_configs() if kind == "configs" else _words(*rest)))
  return _tell(_columns(_TABLES[kind]()))


def _configs() -> dict[str, str]:
  return {
    name: _first_line(ast.get_docstring(ast.parse(file.read_text())))
    for name, file in settings_lib.shipped().items()
  }


def _words(config: str = "base") -> dict[str, str]:
  module = settings_lib.load_module(config)
  table = getattr(module, "WORDS", settings_lib.load_module("base").VARIANTS)
  found = {
    word: ", ".join(f"{k}={settings_lib.in_words(v)}" for k, v in keys.items())
    for word, keys in table.items()
  }
  return {**found, "smoke": "about a minute on two CPU cores, procedural unless data.dir is given"}


# What a registry knows; each imports JAX.


def _augmentations() -> dict[str, str]:
  from mixboost_jax import augment
  from mixboost_jax.train.augmentation import POLICIES

  found = {name: _first_line(one.fn.__doc__) for name, one in POLICIES.items()}
  takes = {name: f"takes {', '.join(k) or 'nothing'}" for name, k in augment.COMPOSITES.items()}
  return found | takes


def _corruptions() -> dict[str, str]:
  from mixboost_jax import corruptions

  return {name: ", ".join(members) for name, members in corruptions.NAMES.items()}


def _suites() -> Mapping[str, str]:
  from mixboost_jax import evaluate

  return evaluate.SUITES


def _models() -> Mapping[str, str]:
  from mixboost_jax import models

  return models.NAMES


def _attacks() -> Mapping[str, str]:
  from mixboost_jax.audit import plan

  return plan.ATTACKS


def _defenses() -> dict[str, str]:
  from mixboost_jax import defenses
  from mixboost_jax.audit import plan

  of_presets = {
    name: f"preset (config.audit.preset) of {', '.join(entries)}"
    for name, entries in defenses.PRESETS.items()
  }
  always = {"none": "the network without a defense", "mi-pl": "Mixup Inference, predicted label"}
  return {name: f"{always[name]}; with every preset" for name in plan.EXTRA} | of_presets


def _targets() -> dict[str, str]:
  from mixboost_jax.runtime.targets import CHIPS, GIB

  memory = {name: f"{chip.memory / GIB:.0f} GiB for a program" for name, chip in CHIPS.items()}
  return memory | {"cpu": "this host's kind"}


_TABLES: Mapping[str, Callable[[], Mapping[str, str]]] = {
  "augmentations": _augmentations,
  "corruptions": _corruptions,
  "suites": _suites,
  "models": _models,
  "attacks": _attacks,
  "defenses": _defenses,
  "targets": _targets,
}
LISTS: Mapping[str, str] = {
  "configs": "experiments, for --config=NAME",
  "words": "what changes an experiment, for --config=NAME:word+word",
  "augmentations": "for config.augment.policy.name",
  "corruptions": "for parts of config.evaluate.suite: c:fog:3",
  "suites": "for config.evaluate.suite",
  "models": "for config.model.name",
  "attacks": "for config.audit.attacks",
  "defenses": "for config.audit.defenses",
  "targets": "chips, for --job=compile --config.runtime.target=CHIP",
}


def show_data(arguments: Sequence[str]) -> int:
  """Prints what a folder or file is, and the command that reads it."""
  if len(arguments) != 1:
    raise ValueError(f"inspect: expected one FOLDER or FILE, got {len(arguments)} words.")
  from mixboost_jax.data import inspection

  return _tell(str(inspection.inspect(pathlib.Path(arguments[0]).expanduser())))


def show_version(arguments: Sequence[str] = ()) -> int:
  """Prints the version of the package."""
  del arguments
  return _tell(f"mixboost_jax {mixboost_jax.__version__}")


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
  "help": show_help,
  "list": show_list,
  "inspect": show_data,
}


def answer(arguments: Sequence[str]) -> int | None:
  """Does what asks for no config; returns the exit code, or None if a run is asked for."""
  if {"--help", "-h", "-help", "--helpfull"} & set(arguments):
    return show_help()
  if "--version" in arguments:
    return show_version()
  command = COMMANDS.get(arguments[0]) if arguments else None
  return command(arguments[1:]) if command else None


def _tell(text: str) -> int:
  """Prints to whoever still reads; returns the exit code."""
  try:
    print(text, flush=True)
  except BrokenPipeError:  # `| head`; what is flushed at the end would fail again
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


def _first_line(text: str | None) -> str:
  return (text or "").strip().partition("\n")[0].rstrip(".")


def _columns(rows: Mapping[str, str], *, width: int = 24) -> str:
  """Returns names and what is said of them, side by side."""
  width = min(max(map(len, rows), default=0), width)
  lines = []
  for name, text in rows.items():
    start = f"  {name:<{width}}  "
    if len(name) > width and text:
      lines.append(f"  {name}")
      start = " " * (width + 4)
    lines += textwrap.wrap(text, 98, initial_indent=start, subsequent_indent=" " * (width + 4)) or [
      start.rstrip()
    ]
  return "\n".join(lines)
