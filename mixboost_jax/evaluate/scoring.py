# SPDX-License-Identifier: Apache-2.0
"""One pass of a network over labelled pictures: what each example contributes to every metric."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import metrics
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate.examples import Examples, padded_batches
from mixboost_jax.runtime import mesh as mesh_lib

ApplyFn = Callable[[Any, jax.Array], jax.Array]
"""`(variables, images) -> logits` in evaluation mode."""
_IN_FLIGHT = 2  # batches dispatched before the oldest is read back


class Scores(NamedTuple):
  """One entry per example, in order; on the host once `Scorer` returns."""

  correct: Any
  """float32[N], 0 or 1."""
  confidence: Any
  """float32[N], the largest probability."""
  nll: Any
  """float32[N], in nats."""
  brier: Any
  """float32[N]."""


class Scorer:
  """Scores examples with any values of the variables of one network; compiles once per shape."""

  def __init__(self, apply_fn: ApplyFn, *, batch_size: int, mesh: Mesh | None = None):
    """Builds the compiled function.

    Args:
      apply_fn: `(variables, images) -> logits[B, K]`, traceable.
      batch_size: examples per call, rounded up to a multiple of the number of devices.
      mesh: batches are split over all its devices; all devices if None.
    """
    if batch_size < 1:
      raise ValueError(f"evaluate: batch_size must be >= 1, got {batch_size}.")
    self._mesh = mesh_lib.create() if mesh is None else mesh
    self.batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
    self._apply_fn = apply_fn
    self._score = jax.jit(self._score_batch, out_shardings=mesh_lib.replicated(self._mesh))

  def _score_batch(
    self, variables: Any, images: jax.Array, labels: jax.Array
  ) -> tuple[Scores, jax.Array]:
    logits = self._apply_fn(variables, images)
    if logits.ndim != 2 or len(logits) != len(labels):
      raise ValueError(
        f"evaluate: logits_fn must return [B, K] = [{len(labels)}, K] for images "
        f"{list(images.shape)}, got {list(logits.shape)}."
      )
    logits = logits.astype(jnp.float32)
    probabilities = jax.nn.softmax(logits, axis=-1)
    scores = Scores(
      metrics.correct(logits, labels).astype(jnp.float32),
      metrics.confidence(probabilities),
      metrics.nll_per_example(logits, labels),
      metrics.brier_per_example(probabilities, labels),
    )
    usable = jnp.isfinite(logits).all(axis=-1) & (labels < logits.shape[-1])
    return scores, usable

  def __call__(self, variables: Any, examples: Examples) -> Scores:
    """Scores every example once.

    Raises:
      ValueError: if the network returns something that is not finite logits [B, K], or too few
        classes for the labels.
    """
    variables = jax.tree.map(self._placed, variables)
    sharding = mesh_lib.batch_sharding(self._mesh)
    waiting: collections.deque = collections.deque()
    parts: list[tuple[Scores, np.ndarray]] = []

    def read_oldest() -> None:
      result, real = waiting.popleft()
      parts.append(jax.tree.map(lambda values: values[real], jax.device_get(result)))

    for images, labels, weights in padded_batches(examples, self.batch_size):
      arrays = jax.device_put((images, labels), sharding)
      waiting.append((self._score(variables, *arrays), weights > 0))
      if len(waiting) > _IN_FLIGHT:
        read_oldest()
    while waiting:
      read_oldest()
    scores, usable = jax.tree.map(lambda *values: np.concatenate(values), *parts)
    if len(scores.nll) != len(examples):
      raise RuntimeError(f"evaluate: scored {len(scores.nll)} of {len(examples)} examples.")
    if not usable.all():
      raise ValueError(
        f"evaluate: for {int((~usable).sum())} of {len(usable)} examples of {examples.dataset} the "
        "logits are not finite or the label has no column; check the checkpoint and num_classes."
      )
    return scores

  def _placed(self, leaf: Any) -> Any:
    """Leaves arrays that already live on the mesh (sharded or not) and replicates the others."""
    if isinstance(leaf, jax.Array) and leaf.sharding.device_set == set(self._mesh.devices.flat):
      return leaf
    return jax.device_put(leaf, mesh_lib.replicated(self._mesh))


def call(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
  """The `ApplyFn` of a function that is its own variables, a `jax.tree_util.Partial`."""
  return logits_fn(images)


def open_up(logits_fn: LogitsFn, image_shape: tuple[int, ...]) -> tuple[ApplyFn, Any]:
  """Splits a closure over parameters into a pure function and the arrays that it closes over.

  As constants of the compiled program the parameters would be copied into it. A
  `jax.tree_util.Partial` is such a pair already.

  Args:
    logits_fn: images -> logits.
    image_shape: [B, H, W, C], the only shape that the pure function need accept.

  Raises:
    ValueError: if `logits_fn` cannot be traced or does not return one array.
  """
  if isinstance(logits_fn, jax.tree_util.Partial):
    return call, logits_fn
  is_jitted = hasattr(logits_fn, "lower")  # whose constants lie out of reach inside
  inner = getattr(logits_fn, "__wrapped__", logits_fn) if is_jitted else logits_fn
  # A function of its own: JAX caches traces by function, and a module's parameters may change.
  trace = jax.make_jaxpr(lambda images: inner(images))
  try:
    jaxpr = trace(jax.ShapeDtypeStruct(image_shape, jnp.float32))
  except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
    raise ValueError(
      "evaluate: logits_fn must be made of JAX operations (it is compiled); wrap other code in "
      "jax.pure_callback."
    ) from error
  if len(jaxpr.out_avals) != 1:
    raise ValueError(f"evaluate: logits_fn must return one array, got {len(jaxpr.out_avals)}.")

  def apply_fn(variables: list[jax.Array], images: jax.Array) -> jax.Array:
    return jax.extend.core.jaxpr_as_fun(jaxpr.replace(consts=variables))(images)[0]

  return apply_fn, list(jaxpr.consts)
