# SPDX-License-Identifier: Apache-2.0
"""The results file: the only thing that evaluation hands to the report.

One JSON file per run, schema version 1. Errors and their intervals are in percent. Numbers that are
not finite are stored as `null`; a `value` of `null` reads back as NaN (undefined).
"""

import dataclasses
import datetime
import difflib
import html
import json
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_origin

from mixboost_jax import files
from mixboost_jax import settings as settings_lib
from mixboost_jax.runtime import environment
from mixboost_jax.schema import Settings

SCHEMA_VERSION = 1
SAMPLE_KINDS = ("clean", "augmented", "masked", "mistakes", "adversarial")
BETTER = ("lower", "higher", "none")
LEVELS = ("red", "amber", "note")
_MOST_PROBLEMS = 20


class ResultsError(ValueError):
  """A results file (or what should become one) does not have the agreed shape."""


class ForeignFileError(ResultsError):
  """A JSON file that does not claim to be a results file."""


@dataclasses.dataclass(frozen=True)
class Metric:
  """One measured number with its interval and where it comes from."""

  name: str
  """What was measured, e.g. `error`, `nll`, `ece`."""
  value: float
  """NaN if it is undefined."""
  low: float | None
  """Lower end of the interval in the unit of `value`; None if there is no interval."""
  high: float | None
  confidence: float | None
  """Level of the interval in (0, 1)."""
  interval: str
  """How the interval was made, e.g. `wilson`, `bootstrap`; `none` if there is none."""
  count: int
  """Scored examples."""
  unit: str
  """`%`, `nats`, or empty for a plain number."""
  better: str
  """`lower`, `higher` or `none`."""
  dataset: str
  """Name of the data, as in the config."""
  split: str
  """`test`, `validation` or `train`."""
  source: str
  """Where the data come from, e.g. `procedural`, `files`, `generated`, `released`."""

  def __str__(self) -> str:
    """Writes e.g. `5.90 % [4.95, 7.02]`."""
    decimals = 2 if self.unit == "%" else 3
    known = self.low is not None and self.high is not None
    ends = f" [{self.low:.{decimals}f}, {self.high:.{decimals}f}]" if known else ""
    return f"{self.value:.{decimals}f}{' ' if self.unit else ''}{self.unit}{ends}"

  @property
  def key(self) -> str:
    """What it is called in `results[...]`: of what, then what, e.g. `pgd error`.

    Names of several parts, such as `audit/DEFENSE/ATTACK`, say it all.
    """
    if "/" in self.name:
      return self.name
    suffix = _DERIVED.sub("", self.dataset) or "clean"
    split = "" if self.split == "test" else f" {self.split}"
    return _plain(f"{suffix}{split} {self.name}")


def _plain(text: str) -> str:
  return text.replace("_", " ").replace("-", " ").lower()


@dataclasses.dataclass(frozen=True)
class Flag:
  """Something that a reader must know before believing the numbers."""

  name: str
  """What was checked, e.g. `zero_gradients`."""
  level: str
  """`red` (do not believe the number), `amber` (look closer) or `note`."""
  message: str
  """What was found."""
  remedy: str
  """What to do about it."""

  def __str__(self) -> str:
    return f"[{self.level}] {self.message} {self.remedy}"


_DERIVED = re.compile(r"^[^-(]*(\([^)]*\))?-?")
"""What stands before the suffix of a derived set: the name of the set, with its note."""


@dataclasses.dataclass(frozen=True, repr=False)
class Results:
  """Everything that one run has to show.

  ```python
  results["clean error"].value, print(results.table()), results.to_dataframe()
  ```
  """

  name: str
  """Name of the run, `config.name`."""
  settings: Mapping[str, Any]
  """The resolved config, `Settings.to_json()`."""
  config_hash: str
  environment: Mapping[str, Any]
  """Versions, hardware, git commit: `environment.describe()`."""
  command: str
  """The command line as typed."""
  started: str
  """ISO 8601, UTC."""
  seconds: Mapping[str, float]
  """Phase (`train`, `evaluate`, ...) -> wall time."""
  metrics: tuple[Metric, ...]
  curves: Mapping[str, Sequence[Mapping[str, Any]]]
  """Name -> points `{"step": int, ...numbers}` in the order of steps."""
  samples: Mapping[str, str]
  """Kind of picture -> path of a PNG strip, relative to the folder of the results file."""
  flags: tuple[Flag, ...] = ()
  """Warnings and notes of the evaluation, most serious first; files before them have none."""

  def __getitem__(self, name: str) -> Metric:
    """Returns a metric by its key, e.g. "clean error", "c mce", "c error:fog", or unique name."""
    asked = _plain(name)
    keys = {_plain(key): metric for key, metric in self._named().items()}
    named = [metric for metric in self.metrics if _plain(metric.name) == asked]
    if asked in keys or len(named) == 1:
      return keys.get(asked) or named[0]
    close = difflib.get_close_matches(asked, keys, n=3) or list(keys)
    close = [key for key in self._named() if _plain(key) in close]
    raise KeyError(f"{name!r}: no such metric; there is {', '.join(map(repr, close[:20]))}")

  def __iter__(self) -> Iterator[str]:
    return iter(self._named())

  def keys(self) -> tuple[str, ...]:
    """Returns what `results[...]` takes."""
    return tuple(self._named())

  def _named(self) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for metric in self.metrics:
      found.setdefault(metric.key, metric)
    return found

  def table(self, *, members: bool = False) -> str:
    """Returns the metrics as text, a line each; `members`: also of single corruptions and films."""
    rows = self._rows(members=members)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {metric}  (n = {metric.count:,})" for name, metric in rows)

  def headline(self) -> str:
    """Returns the first metric in words: of a suite with clean pictures, their error."""
    if not self.metrics:
      return "nothing was measured"
    first = self.metrics[0]
    return f"{first.key} {first} on {first.count:,} {first.split} pictures"

  def to_dataframe(self) -> Any:
    """Returns a pandas table with a row per metric; needs pandas."""
    try:
      import pandas as pd  # pyright: ignore[reportMissingImports]
    except ImportError as error:
      raise ImportError("to_dataframe needs pandas: pip install pandas") from error
    rows = [dataclasses.asdict(metric) for metric in self.metrics]
    return pd.DataFrame(rows, index=[metric.key for metric in self.metrics])

  def __repr__(self) -> str:
    count = f"{len(self.metrics)} metrics, {len(self.flags)} flags"
    return f"Results({self.name!r}: {self.headline()}; {count})"

  def _repr_html_(self) -> str:
    cells = "".join(
      f"<tr><td style='text-align:left'>{html.escape(name)}</td><td>{html.escape(str(metric))}</td>"
      f"<td>{metric.count:,}</td></tr>"
      for name, metric in self._rows(members=False)
    )
    head = "<tr><th>metric</th><th>value</th><th>pictures</th></tr>"
    flags = "".join(f"<li>[{f.level}] {html.escape(f.message)}</li>" for f in self.flags)
    return f"<b>{html.escape(self.name)}</b><table>{head}{cells}</table><ul>{flags}</ul>"

  def _rows(self, *, members: bool) -> list[tuple[str, Metric]]:
    return [(name, m) for name, m in self._named().items() if members or ":" not in m.name]


def write(path: str | os.PathLike, results: Results) -> None:
  """Writes the file atomically.

  Raises:
    ResultsError: if the content breaks the schema, listing everything that does.
    WriteError: if the disk is full or not writable; an older file stays as it was.
  """
  tree = {"schema_version": SCHEMA_VERSION, **_finite(dataclasses.asdict(results))}
  tree = json.loads(json.dumps(tree, default=_plain_number))
  if problems := _problems(tree):
    raise ResultsError(_message(f"results for {os.fspath(path)}", problems))
  files.write_json(path, tree)


def read(path: str | os.PathLike) -> Results:
  """Reads and validates a results file.

  Raises:
    ResultsError: if it is missing, not JSON, of another schema version, or of another shape.
  """
  file = os.fspath(path)
  try:
    tree = files.read_json(path)
  except OSError as error:
    raise ResultsError(f"cannot read results {file}: {error.strerror or error}.") from error
  except ValueError as error:
    raise ResultsError(f"results {file}: not a JSON file ({files.reason(error)}).") from error
  if not isinstance(tree, dict) or "schema_version" not in tree:
    raise ForeignFileError(f"results {file}: not a results file, it has no schema_version.")
  if not _is_count(tree["schema_version"]) or tree["schema_version"] != SCHEMA_VERSION:
    raise ResultsError(
      f"results {file}: schema version {_shown(tree['schema_version'])}, but this version of "
      f"mixboost_jax reads {SCHEMA_VERSION}; evaluate the run again."
    )
  tree.setdefault("flags", [])
  if problems := _problems(tree):
    raise ResultsError(_message(f"results {file}", problems))
  del tree["schema_version"]
  metrics = tuple(
    Metric(**{**m, "value": math.nan if m["value"] is None else float(m["value"])})
    for m in tree["metrics"]
  )
  flags = tuple(Flag(**flag) for flag in tree["flags"])
  return Results(**{**tree, "metrics": metrics, "flags": flags})


def _message(file: str, problems: Sequence[str]) -> str:
  count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
  lines = [f"  - {p}" for p in problems[:_MOST_PROBLEMS]]
  if len(problems) > _MOST_PROBLEMS:
    lines.append(f"  ... and {len(problems) - _MOST_PROBLEMS} more")
  return f"{file}: {count}:\n" + "\n".join(lines)


def _shown(value: Any) -> str:
  """Returns a value as it is read, cut to a length that a message can bear."""
  text = repr(value)
  return text if len(text) <= 80 else f"{text[:77]}..."


def _finite(tree: Any) -> Any:
  """Copies a tree with None for numbers that JSON cannot say, lists for tuples, whole characters.

  A path on the command line may hold bytes that are no text.
  """
  if isinstance(tree, Mapping):
    return {_finite(str(key)): _finite(value) for key, value in tree.items()}
  if isinstance(tree, str):
    return tree.encode(errors="backslashreplace").decode()
  if isinstance(tree, list | tuple):
    return [_finite(value) for value in tree]
  if isinstance(tree, float) and not math.isfinite(tree):
    return None
  return tree


def _plain_number(value: Any) -> Any:
  """Turns a NumPy or JAX scalar into a Python number."""
  if getattr(value, "ndim", None) == 0:
    return _finite(value.item())
  raise TypeError(f"{type(value).__name__} is not JSON")


def _is_number(value: Any) -> bool:
  """Whether a value is a number that float64 can hold; JSON also says 10**400, 1e999 and NaN."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return -sys.float_info.max <= value <= sys.float_info.max


def _is_count(value: Any) -> bool:
  """Whether a value is an integer that a counter of 64 bits can hold."""
  return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _problems(tree: Mapping[str, Any]) -> list[str]:
  """Lists everything in which a parsed file differs from the schema."""
  if problems := list(_text_problems(tree, "results")):
    return problems
  if problems := _field_problems({k: v for k, v in tree.items() if k != "schema_version"}, Results):
    return problems
  for phase, seconds in tree["seconds"].items():
    if not _is_number(seconds) or seconds < 0:
      problems.append(f"seconds.{phase}: expected a number >= 0, got {_shown(seconds)}")
  for i, metric in enumerate(tree["metrics"]):
    field = f"metrics[{i}]"
    problems += _field_problems(metric, Metric, field) or _metric_problems(metric, field)
  for name, points in tree["curves"].items():
    problems += _curve_problems(points, f"curves.{name}")
  for i, flag in enumerate(tree["flags"]):
    if wrong := _field_problems(flag, Flag, f"flags[{i}]"):
      problems += wrong
    elif (level := flag["level"]) not in LEVELS:
      problems.append(f"flags[{i}].level: expected one of {', '.join(LEVELS)}, got {level}")
  for kind, path in tree["samples"].items():
    place = f"samples.{kind}: "
    if kind not in SAMPLE_KINDS:
      problems.append(f"{place}unknown kind; known: {', '.join(SAMPLE_KINDS)}")
    elif not isinstance(path, str) or not path:
      problems.append(f"{place}expected a path, got {_shown(path)}")
    elif path.startswith("/") or ".." in pathlib.PurePosixPath(path).parts:
      problems.append(f"{place}expected a path inside the run folder, got {_shown(path)}")
  return problems


def _text_problems(tree: Any, field: str) -> Iterator[str]:
  """Yields where half characters are, with which no report could be written."""
  if isinstance(tree, str):
    if not files.is_text(tree):
      yield f"{field}: expected text in Unicode, got {_shown(tree)}"
  elif isinstance(tree, dict | list):
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
      yield from _text_problems(key, f"{field}: key")
      yield from _text_problems(value, f"{field}.{key}")


def _field_problems(tree: Any, kind: type, field: str = "") -> list[str]:
  """Compares the keys of a mapping, and the types of their values, with a dataclass."""
  if not isinstance(tree, dict):
    return [f"{field}: expected a mapping, got {_shown(tree)}"]
  kinds, place = {f.name: f.type for f in dataclasses.fields(kind)}, f"{field}." if field else ""
  problems = [f"{place}{key}: missing" for key in kinds if key not in tree]
  problems += [f"{place}{key}: unknown key" for key in tree if key not in kinds]
  for key, value in tree.items():
    fits, words = _TYPES.get(kinds.get(key), _ANYTHING)
    if not fits(value):
      problems.append(f"{place}{key}: expected {words}, got {_shown(value)}")
  return problems


_IS_MAPPING = (lambda value: isinstance(value, dict), "a mapping")
_IS_LIST = (lambda value: isinstance(value, list), "a list")
_IS_NUMBER = (lambda value: value is None or _is_number(value), "a number or null")
_ANYTHING = (lambda value: True, "")
_TYPES: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
  str: (lambda value: isinstance(value, str), "text"),
  int: (lambda value: _is_count(value) and value >= 0, "an integer >= 0"),
  float: _IS_NUMBER,
  float | None: _IS_NUMBER,
  **{f.type: _IS_MAPPING for f in dataclasses.fields(Results) if get_origin(f.type) is Mapping},
  tuple[Metric, ...]: _IS_LIST,
  tuple[Flag, ...]: _IS_LIST,
}
"""Type in the dataclasses above -> what it is in JSON."""


def _metric_problems(metric: Mapping[str, Any], field: str) -> list[str]:
  problems = []
  low, high, confidence = metric["low"], metric["high"], metric["confidence"]
  if metric["better"] not in BETTER:
    problems.append(f"{field}.better: expected one of {', '.join(BETTER)}, got {metric['better']}")
  if (low is None) != (high is None) or (low is not None and low > high):
    problems.append(f"{field}.low, high: expected low <= high or neither, got {low!r}, {high!r}")
  if confidence is not None and not 0 < confidence < 1:
    problems.append(f"{field}.confidence: expected a number in (0, 1), got {confidence!r}")
  return problems


def _curve_problems(points: Any, field: str) -> list[str]:
  if not isinstance(points, list):
    return [f"{field}: expected a list of points, got {_shown(points)}"]
  for i, point in enumerate(points):
    step = point.get("step") if isinstance(point, dict) else None
    if not _is_count(step):
      return [f'{field}[{i}]: expected {{"step": integer, ...numbers}}, got {_shown(point)}']
    for key, value in point.items():
      if value is not None and not _is_number(value):
        return [f"{field}[{i}].{key}: expected a number or null, got {_shown(value)}"]
  return []


class Clock:
  """Times a measurement, from its creation, and makes a results file of its numbers."""

  def __init__(self, part: str):
    """Starts; `part` is what the results call the seconds."""
    self._part = part
    self._started, self._begin = datetime.datetime.now(datetime.UTC), time.perf_counter()

  def seconds(self) -> float:
    """Returns how long it has been running."""
    return time.perf_counter() - self._begin

  def results(
    self,
    of: Settings | str,
    metrics: Sequence[Metric],
    curves: Mapping[str, Any],
    *,
    flags: Sequence[Flag] = (),
  ) -> Results:
    """Returns the results of a run, or of what has a name only; the command is left open."""
    return Results(
      name=of if isinstance(of, str) else of.name,
      settings={} if isinstance(of, str) else of.to_json(),
      config_hash="" if isinstance(of, str) else settings_lib.config_hash(of),
      environment=environment.describe(),
      command="",
      started=self._started.isoformat(timespec="seconds"),
      seconds={self._part: self.seconds()},
      metrics=tuple(metrics),
      curves=dict(curves),
      samples={},
      flags=tuple(flags),
    )
