# SPDX-License-Identifier: Apache-2.0
"""Any classifier as a `logits_fn`: images in [0, 1] in, float32 logits out, evaluation mode.

Every function here returns a `jax.tree_util.Partial`. It is called like a function, and since it
is also a pytree it can be an *argument* of a jitted function: the weights are then inputs of the
compiled program, not constants inside it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mixboost_jax.array_types import LogitsFn
from mixboost_jax.models.network import Network


def logits_fn(model: nnx.Module) -> LogitsFn:
  """Adapts an NNX module, ours or not, as it is now: later changes of `model` do not show.

  A module that is not ours is called as `model(images)` after `model.eval()`, so that dropout is
  off and batch normalisation uses its running statistics.
  """
  graph, state = nnx.split(model)
  if not isinstance(model, Network):
    copied = nnx.merge(graph, state, copy=True)
    copied.eval()
    graph, state = nnx.split(copied)
  return jax.tree_util.Partial(_call_nnx, graph, nnx.to_pure_dict(state))


def logits_fn_from_linen(module: Any, variables: Mapping[str, Any], **call_kwargs: Any) -> LogitsFn:
  """Adapts a Linen module.

  Args:
    module: a `flax.linen.Module`.
    variables: its variables, e.g. `{"params": ..., "batch_stats": ...}`; never changed.
    **call_kwargs: further arguments of `module.apply` that mean evaluation, such as `train=False`.
  """
  return jax.tree_util.Partial(functools.partial(_call_linen, module, call_kwargs), variables)


def logits_fn_from_callable(fn: Callable[[Array], Any]) -> LogitsFn:
  """Adapts any function of a batch of images; what it returns is checked and made float32."""
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
