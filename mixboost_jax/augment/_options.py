# SPDX-License-Identifier: Apache-2.0
"""What every keyword of an augmentation may be: one table, used by configs and by calls alike."""

import math
from collections.abc import Callable, Mapping
from typing import Any

Number = float | int
"""What a real-valued keyword accepts."""

Rule = Callable[[Any], str | None]
"""Returns what a value should have been, or None if it is fine."""


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(low: Number, high: Number = math.inf, *, open_low: bool = False) -> Rule:
  left = "(" if open_low else "["
  want = f"a number in {left}{low:g}, {high:g}]" if high < math.inf else f"a number >= {low:g}"
  if open_low and high == math.inf:
    want = f"a number > {low:g}"

  def rule(value: Any) -> str | None:
    if _is_number(value) and low <= value <= high and not (open_low and value == low):
      return None
    return want

  return rule


def _integer(low: int) -> Rule:
  def rule(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= low
    return None if fits else f"an integer >= {low}"

  return rule


def _one_of(*choices: str) -> Rule:
  return lambda value: None if value in choices else f"one of {', '.join(choices)}"


def _some_of(*choices: str) -> Rule:
  def rule(value: Any) -> str | None:
    fits = isinstance(value, tuple | list) and len(value) > 0 and set(value) <= set(choices)
    return None if fits else f"a tuple of some of {', '.join(choices)}"

  return rule


def _interval(low: Number) -> Rule:
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
  "alpha": _number(0),
  "beta": _number(0, open_low=True),
  "bins": _integer(2),
  "brightness": _number(0),
  "contrast": _number(0),
  "depth": _integer(-1),
  "fill": _pixel,
  "formulation": _one_of("auto", "serial", "merged"),
  "hue": _number(0, 0.5),
  "k": _integer(0),
  "length": _integer(0),
  "magnitude": _number(0),
  "mixings": _some_of("add", "multiply", "screen", "overlay", "darken_or_lighten", "swap_channel"),
  "num_neighbors": _integer(1),
  "num_ops": _integer(0),
  "options": _tuple,
  "p": _number(0, 1),
  "padding": _integer(0),
  "partner": _one_of("roll", "permutation", "two_permutations"),
  "per": _one_of("batch", "example"),
  "prob": _number(0, 1),
  "radius": _integer(0),
  "ratio": _interval(0),
  "saturation": _number(0),
  "scale": _interval(0),
  "severity": _number(0.1, 10),
  "sigma": _number(0),
  "sigmas": _interval(0),
  "size": _integer(1),
  "steps": _tuple,
  "weight": _number(0, 1),
  "width": _integer(1),
}

SPECIAL_RULES: Mapping[str, Rule] = {
  "augmix.alpha": _number(0, open_low=True),
  "autoaugment.policy": _one_of("cifar10", "imagenet", "imagenet_v0"),
  "autoaugment.ranges": _one_of("default", "torchvision", "original"),
  "randaugment.ranges": _one_of("torchvision", "official"),
  "sample_pairing.partner": _one_of("roll", "permutation"),
  "trivial_augment_wide.ranges": _one_of("torchvision", "official"),
}
"""Where a keyword means something else in one function."""


def problem(place: str, name: str, value: Any) -> str | None:
  """Returns what is wrong with keyword `name=value` of `place`, or None (also without a rule)."""
  rule = SPECIAL_RULES.get(f"{place}.{name}", RULES.get(name))
  want = rule(value) if rule else None
  return f"expected {want}, got {value!r}" if want else None


def check(place: str, **values: Any) -> None:
  """Raises for the first keyword of a call that breaks its rule.

  Raises:
    ValueError: naming `place`, the keyword, what it may be and what it was.
  """
  for name, value in values.items():
    if wrong := problem(place, name, value):
      raise ValueError(f"{place}: {name}: {wrong}.")
