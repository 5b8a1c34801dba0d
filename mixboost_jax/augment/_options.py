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


def _rule(want: str, fits: Callable[[Any], bool]) -> Rule:
  return lambda value: None if fits(value) else want


def number(low: Number, *, high: Number = math.inf, open_low: bool = False) -> Rule:
  """Asks for a number of an interval; `open_low` leaves its lower end out."""
  want = f"a number {'>' if open_low else '>='} {low:g}"
  if high < math.inf:
    want = f"a number in {'(' if open_low else '['}{low:g}, {high:g}]"
  return _rule(want, lambda v: _is_number(v) and low <= v <= high and not (open_low and v == low))


def integer(low: int) -> Rule:
  """Asks for an integer."""
  return _rule(
    f"an integer >= {low}",
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low,
  )


def one_of(*choices: Any) -> Rule:
  """Asks for one of the choices."""
  return _rule(f"one of {', '.join(map(str, choices))}", lambda v: v in choices)


def some_of(*choices: str) -> Rule:
  """Asks for a tuple of at least one of the choices."""
  return _rule(
    f"a tuple of some of {', '.join(choices)}", lambda v: _is_filled(v) and set(v) <= set(choices)
  )


def interval(low: Number) -> Rule:
  """Asks for two numbers in order, both above `low`."""
  return _rule(
    f"two numbers a <= b, a > {low:g}",
    lambda v: _is_filled(v) and len(v) == 2 and all(map(_is_number, v)) and low < v[0] <= v[1],
  )


def _is_filled(value: Any) -> bool:
  return isinstance(value, tuple | list) and len(value) > 0


def _is_pixel(value: Any) -> bool:
  parts = value if isinstance(value, tuple | list) else (value,)
  return len(parts) > 0 and all(_is_number(v) and 0 <= v <= 1 for v in parts)


_flag = _rule("True or False", lambda v: isinstance(v, bool))
_pixel = _rule("a pixel value in [0, 1], or a tuple with one per channel", _is_pixel)
_tuple = _rule("a tuple of policies", _is_filled)

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
  """Raises a ValueError for the first keyword of a call that breaks its rule."""
  for name, value in values.items():
    if wrong := problem(name, value, own or {}):
      raise ValueError(f"{place}: {name}: {wrong}.")
