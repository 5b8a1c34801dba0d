# SPDX-License-Identifier: Apache-2.0
"""A network as a pure function of plain dicts, as training speaks; any classifier as a `logits_fn`.

A `logits_fn` maps images in [0, 1] to float32 logits in evaluation mode. All made here are
`jax.tree_util.Partial`s: called like a function, and since that is also a pytree it can be an
*argument* of a jitted function: the weights are then inputs of the compiled program, not constants
inside it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mixboost_jax.array_types import Logits, LogitsFn, PRNGKeys
from mixboost_jax.models.layers import Linear, Taps
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

  ```python
  model = models.create("tiny-cnn", num_classes=4, key=key, image_size=16)
  net = models.functional(model)
  logits, stats = net.apply(net.params, net.stats, images, train=False)
  ```

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
  """Returns a copy of `model` with other numbers, e.g. those that training ended with.

  ```python
  model = models.create("tiny-cnn", num_classes=4, key=key, image_size=16)
  net = models.functional(model)
  halved = models.merge(model, jax.tree.map(lambda leaf: leaf / 2, net.params), net.stats)
  ```
  """
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


def logits_fn(model: Any) -> LogitsFn:
  """Adapts an `nnx.Module`, ours or not, as it is now: later changes of `model` do not show.

  A module that is not ours is called as `model(images)` after `model.eval()`, so that dropout is
  off and batch normalisation uses its running statistics. Anything else is a ValueError.

  ```python
  model = models.create("tiny-cnn", num_classes=4, key=key, image_size=16)
  logits = models.logits_fn(model)(images)
  ```
  """
  if not isinstance(model, nnx.Module):
    raise ValueError(
      f"models.logits_fn: expected an NNX module, got {type(model).__name__}; of a Linen module "
      "take logits_fn_from_linen(module, variables), of a function logits_fn_from_callable(fn)."
    )
  graph, state = nnx.split(model)
  if not isinstance(model, Network):
    copied = nnx.merge(graph, state, copy=True)
    copied.eval()
    graph, state = nnx.split(copied)
  return jax.tree_util.Partial(_call_nnx, graph, nnx.to_pure_dict(state))


def features_fn(model: Network) -> LogitsFn:
  """Returns `images -> features[N, D]` in evaluation mode: what the classifier's last layer sees.

  ```python
  model = models.create("tiny-cnn", num_classes=4, key=key, image_size=16)
  features = models.features_fn(model)(images)
  ```

  Raises:
    ValueError: if the network does not end in one linear layer.
  """
  copied = nnx.merge(*nnx.split(model), copy=True)
  classes = copied.spec.num_classes
  last = [
    name
    for name, layer in vars(copied).items()
    if isinstance(layer, Linear) and layer.kernel.shape[1] == classes
  ]
  if not last:
    raise ValueError(
      f"models.features_fn: {type(model).__name__} has no linear layer of {classes} outputs; pass "
      "a function of your own."
    )
  setattr(copied, last[-1], _Identity())
  return logits_fn(copied)


class _Identity(nnx.Module):
  """Stands in for a layer that is left out."""

  def __call__(self, inputs: Array) -> Array:
    return inputs


def logits_fn_from_linen(module: Any, variables: Mapping[str, Any], **call_kwargs: Any) -> LogitsFn:
  """Adapts a Linen module.

  ```python
  from flax import linen
  module = linen.Sequential([lambda x: x.reshape(len(x), -1), linen.Dense(4)])
  variables = module.init(key, images)
  logits = models.logits_fn_from_linen(module, variables)(images)
  ```

  Args:
    module: a `flax.linen.Module`.
    variables: its variables, e.g. `{"params": ..., "batch_stats": ...}`; never changed.
    **call_kwargs: further arguments of `module.apply` that mean evaluation, such as `train=False`.
  """
  return jax.tree_util.Partial(functools.partial(_call_linen, module, call_kwargs), variables)


def logits_fn_from_callable(fn: Callable[[Array], Any]) -> LogitsFn:
  """Adapts any function of a batch of images; what it returns is checked and made float32.

  ```python
  brightness = models.logits_fn_from_callable(lambda images: images.mean((1, 2)))
  assert brightness(images).shape == (8, 3)
  ```
  """
  return jax.tree_util.Partial(functools.partial(_call, fn))


def _call_nnx(graph: Any, state: Any, images: Array) -> Array:
  return _checked(nnx.merge(graph, nnx.State(state), copy=True)(images), images)


def _call_linen(
  module: Any, call_kwargs: dict[str, Any], variables: Mapping[str, Any], images: Array
) -> Array:
  return _checked(module.apply(variables, images, **call_kwargs), images)


def _call(fn: Callable[[Array], Any], images: Array) -> Array:
  return _checked(fn(images), images)


def _checked(logits: Any, images: Array) -> Array:
  if not hasattr(logits, "shape") or len(logits.shape) != 2 or len(logits) != len(images):
    got = list(logits.shape) if hasattr(logits, "shape") else type(logits).__name__
    raise ValueError(
      f"logits_fn: expected logits of shape [{len(images)}, K], one row per image, got {got}. "
      "Wrap the model in a function that returns its logits alone (logits_fn_from_callable)."
    )
  return jnp.asarray(logits, jnp.float32)
