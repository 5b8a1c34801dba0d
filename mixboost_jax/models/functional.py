# SPDX-License-Identifier: Apache-2.0
"""A network as a pure function of plain dicts: the form that training speaks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array

from mixboost_jax.array_types import Logits, PRNGKeys
from mixboost_jax.models.mode import Taps
from mixboost_jax.models.network import Network

ArrayTree = dict[str, Any]
"""Nested dicts with string keys and array leaves."""


@dataclasses.dataclass(frozen=True)
class Functional:
  """A network split into code and numbers.

  Attributes:
    apply: `(params, stats, images, *, train, num_views=1, batchnorm_views="clean",
      dropout_keys=None, taps=None) -> (logits, new_stats)`, pure; see `Network.__call__` for the
      arguments. Works under `jit`, `grad`, `vmap` and `scan`; all but the arrays are static.
    params: what is trained, nested dicts of float32 arrays
      (`params["stage1"]["block0"]["conv1"]["kernel"]`), which `jax.tree` and Orbax take as is.
    stats: running statistics of the normalisation layers, likewise; `{}` if there are none.
  """

  apply: Callable[..., tuple[Array, ArrayTree]]
  params: ArrayTree
  stats: ArrayTree


def functional(model: nnx.Module) -> Functional:
  """Splits a built-in network; `model` is not changed by later calls of `apply`.

  Raises:
    ValueError: if `model` is not one of `models.create` or `models.from_torch`.
  """
  if not isinstance(model, Network):
    raise ValueError(
      f"models.functional: expected a network made by models.create, got {type(model).__name__}. "
      "Other models take part as a logits_fn (models.logits_fn, logits_fn_from_linen, ...)."
    )
  graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
  return Functional(functools.partial(_apply, graph), to_dict(params), to_dict(stats))


def merge(model: Network, params: ArrayTree, stats: ArrayTree) -> Network:
  """Returns a copy of `model` with other numbers, e.g. those that training ended with."""
  graph, _, _ = nnx.split(model, nnx.Param, nnx.BatchStat)
  return nnx.merge(graph, nnx.State(params), nnx.State(stats), copy=True)


def to_dict(state: Any) -> ArrayTree:
  """Returns the arrays of a state as nested dicts."""
  return nnx.to_pure_dict(state)


def _apply(
  graph: Any,
  params: ArrayTree,
  stats: ArrayTree,
  images: Any,
  *,
  train: bool,
  num_views: int = 1,
  batchnorm_views: str = "clean",
  dropout_keys: PRNGKeys | None = None,
  taps: Taps | None = None,
) -> tuple[Logits, ArrayTree]:
  # Without a copy the variables would belong to the trace that made `graph`, and writing the
  # statistics inside `grad` would fail.
  model = nnx.merge(graph, nnx.State(params), nnx.State(stats), copy=True)
  logits = model(
    images,
    train=train,
    num_views=num_views,
    batchnorm_views=batchnorm_views,
    dropout_keys=dropout_keys,
    taps=taps,
  )
  return logits, to_dict(nnx.state(model, nnx.BatchStat))
