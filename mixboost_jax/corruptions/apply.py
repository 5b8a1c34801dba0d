# SPDX-License-Identifier: Apache-2.0
"""One entry for every corruption: checks, keys per example, one compiled program, 8-bit levels."""

import functools
from typing import Any

import jax

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.corruptions.severities import LARGEST_CIFAR_SIDE, SEVERITIES
from mixboost_jax.corruptions.table import CORRUPTIONS
from mixboost_jax.image.quantize import cut, from_levels, to_levels
from mixboost_jax.keys import per_example
from mixboost_jax.registry import lookup


@checks.inputs()
def choose_table(table: str, *, height: int, width: int) -> str:
  """Resolves "auto": "cifar" up to 96 pixels a side, "imagenet" above."""
  if table == "auto":
    return "cifar" if max(height, width) <= LARGEST_CIFAR_SIDE else "imagenet"
  lookup(SEVERITIES, table, field="corruptions.table")
  return table


@checks.inputs()
def parameters(name: str, *, severity: int, table: str) -> dict[str, Any]:
  """Returns the keywords of a corruption at a severity.

  Args:
    name: of the corruption.
    severity: 1..5.
    table: "cifar" or "imagenet".

  Raises:
    ValueError: if the name is unknown, has no severities in this table, or the severity is wrong.
  """
  corruption = lookup(CORRUPTIONS, name, field="corruptions.name")
  if name not in SEVERITIES[table]:
    (other,) = (t for t in SEVERITIES if t != table)
    raise ValueError(
      f"corruptions.name: {name!r} has no severities in table {table!r}; use table={other!r}."
    )
  if severity not in (1, 2, 3, 4, 5):
    raise ValueError(f"corruptions.severity: expected 1, 2, 3, 4 or 5, got {severity!r}.")
  level = SEVERITIES[table][name][severity - 1]
  values = level if isinstance(level, tuple) else (level,)
  return dict(zip(corruption.fields, values, strict=True))


@checks.inputs(values="always")
def corrupt(
  key: AnyKey,
  images: Images,
  *,
  name: str,
  severity: int,
  table: str = "auto",
  straight_through: bool = False,
) -> Images:
  """Corrupts a batch; each picture's draws depend on its own key only.

  Papers: Hendrycks & Dietterich 2019, arXiv:1903.12261 (-C); Mintun et al. 2021,
  arXiv:2102.11273 (C-bar).
  Deviation: the released sets were drawn by other generators, so a generated set has their law and
  not their pixels; `frost_procedural` and `spatter_approximate` differ in kind (see their files).

  Args:
    key: one key, or one per example.
    images: values in [0, 1] (others are refused, traced ones with `MIXBOOST_CHECKS=1` only), one or
      three channels, any size.
    name: a key of `CORRUPTIONS`.
    severity: 1..5.
    table: "cifar" or "imagenet" constants; "auto" chooses by the size of the pictures.
    straight_through: pass gradients through the final cut to levels as if it were not there; the
      values are the same. Otherwise the gradient is 0. A corruption that cuts to levels on its way
      (JPEG, glass, snow and others) loses that part of the gradient in any case: `attacks.bpda`
      replaces all of it.

  Returns:
    Same shape; multiples of 1/255, cut and not rounded, as the benchmarks store them.

  Raises:
    ValueError: for an unknown name, severity, table or number of channels.
  """
  number, height, width, channels = images.shape
  table = choose_table(table, height=height, width=width)
  parameters(name, severity=severity, table=table)
  if channels not in (1, 3):
    raise ValueError(f"corrupt: expected 1 or 3 channels, got {channels}.")
  keys = per_example(key, number)
  options = {"table": table, "straight_through": straight_through}
  return _corrupt(keys, images, name=name, severity=severity, **options)


@functools.partial(jax.jit, static_argnames=("name", "severity", "table", "straight_through"))
def _corrupt(
  keys: PRNGKeys, images: Images, *, name: str, severity: int, table: str, straight_through: bool
) -> Images:
  corruption = CORRUPTIONS[name]
  change = functools.partial(
    corruption.function, **parameters(name, severity=severity, table=table)
  )
  changed = jax.vmap(change)(keys, images) if corruption.samples else jax.vmap(change)(images)
  return cut(changed) if straight_through else from_levels(to_levels(changed))
