# SPDX-License-Identifier: Apache-2.0
"""What the keywords of augmentations may be: one table, used by configs and by calls alike.

An augmentation whose keyword means something else has rules of its own, see `Entry.rules`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Number = float | int
"""What a real-valued keyword accepts."""

Rule = Callable[[Any], str | None]
"""Returns what a value should have been, or None if it is fine."""


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(low: Number, *, high: Number = math.inf, open_low: bool = False) -> Rule:
  """Asks for a number of an interval; `open_low` leaves its lower end out."""
  left = "(" if open_low else "["
  want = f"a number in {left}{low:g}, {high:g}]" if high < math.inf else f"a number >= {low:g}"
  if open_low and high == math.inf:
    want = f"a number > {low:g}"

  def rule(value: Any) -> str | None:
    if _is_number(value) and low <= value <= high and not (open_low and value == low):
      return None
    return want

  return rule


def integer(low: int) -> Rule:
  """Asks for an integer."""

  def rule(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= low
    return None if fits else f"an integer >= {low}"

  return rule


def one_of(*choices: Any) -> Rule:
  """Asks for one of the choices."""
  return lambda value: None if value in choices else f"one of {', '.join(map(str, choices))}"


def some_of(*choices: str) -> Rule:
  """Asks for a tuple of at least one of the choices."""

  def rule(value: Any) -> str | None:
    fits = isinstance(value, tuple | list) and len(value) > 0 and set(value) <= set(choices)
    return None if fits else f"a tuple of some of {', '.join(choices)}"

  return rule


def interval(low: Number) -> Rule:
  """Asks for two numbers in order, both above `low`."""

  def rule(value: Any) -> str | None:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value))
    return None if pair and low < value[0] <= value[1] else f"two numbers a <= b, a > {low:g}"

  return rule


def _tuple(value: Any) -> str | None:
  return None if isinstance(value, tuple | list) and len(value) > 0 else "a tuple of policies"


def _flag(value: Any) -> str | None:
  return None if isinstance(value, bool) else "True or False"


def _pixel(value: Any) -> str | None:
  parts = value if isinstance(value, tuple | list) else (value,)
  fits = len(parts) > 0 and all(_is_number(v) and 0 <= v <= 1 for v in parts)
  return None if fits else "a pixel value in [0, 1], or a tuple with one per channel"


RULES: Mapping[str, Rule] = {
  "all_ops": _flag,
  "alpha": number(0),
  "beta": number(0, open_low=True),
  "bins": integer(2),
  "border": one_of("fill", "reflect"),
  "brightness": number(0),
  "contrast": number(0),
  "depth": integer(-1),
  "fill": _pixel,
  "formulation": one_of("auto", "serial", "merged"),
  "hue": number(0, high=0.5),
  "k": integer(0),
  "length": integer(0),
  "magnitude": number(0),
  "num_neighbors": integer(1),
  "num_ops": integer(0),
  "options": _tuple,
  "p": number(0, high=1),
  "padding": integer(0),
  "partner": one_of("roll", "permutation", "two_permutations"),
  "per": one_of("batch", "example"),
  "prob": number(0, high=1),
  "radius": integer(0),
  "ratio": interval(0),
  "saturation": number(0),
  "scale": interval(0),
  "severity": number(0.1, high=10),
  "sigma": number(0),
  "sigmas": interval(0),
  "size": integer(1),
  "steps": _tuple,
  "weight": number(0, high=1),
  "width": integer(1),
}


def problem(name: str, value: Any, own: Mapping[str, Rule]) -> str | None:
  """Returns what is wrong with `name=value`, or None (also without a rule); `own` goes first."""
  rule = own.get(name) or RULES.get(name)
  want = rule(value) if rule else None
  return f"expected {want}, got {value!r}" if want else None


def check(place: str, own: Mapping[str, Rule] | None = None, /, **values: Any) -> None:
  """Raises for the first keyword of a call that breaks its rule.

  Raises:
    ValueError: naming `place`, the keyword, what it may be and what it was.
  """
  for name, value in values.items():
    if wrong := problem(name, value, own or {}):
      raise ValueError(f"{place}: {name}: {wrong}.")
