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
Change = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(ids[B], images[B, H, W, C], labels[B]) -> images`; a row depends on its own id only."""
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
  max_logit: Any
  """float32[N]."""
  negative_energy: Any
  """float32[N], logsumexp of the logits."""


class Scorer:
  """Scores examples with any values of the variables of one network; compiles once per shape."""

  def __init__(self, apply_fn: ApplyFn, *, batch_size: int, mesh: Mesh | None = None):
    """Builds the compiled functions.

    Args:
      apply_fn: `(variables, images) -> logits[B, K]`, traceable.
      batch_size: examples per call, rounded up to a multiple of the number of devices.
      mesh: batches are split over all its devices; all devices if None.
    """
    if batch_size < 1:
      raise ValueError(f"evaluate: batch_size must be >= 1, got {batch_size}.")
    self.mesh = mesh_lib.create() if mesh is None else mesh
    self.batch_size = self.rounded(batch_size)
    self.apply_fn = apply_fn
    whole = mesh_lib.replicated(self.mesh)
    self._score = jax.jit(self._score_batch, out_shardings=whole)
    self.logits = jax.jit(self._logits_of, out_shardings=whole)
    """`(variables, images[B, H, W, C]) -> float32 logits[B, K]`, for one shape per program."""

  def rounded(self, count: int) -> int:
    """Returns the smallest multiple of the number of devices that is at least `count`."""
    return -(-count // self.mesh.size) * self.mesh.size

  def batch_for(self, count: int) -> int:
    """Returns the rows of a batch when `count` examples are scored."""
    return min(self.batch_size, self.rounded(count))

  def place(self, arrays: Any) -> Any:
    """Splits host arrays over the devices along their first axis."""
    return jax.device_put(arrays, mesh_lib.batch_sharding(self.mesh))

  def _logits_of(self, variables: Any, images: jax.Array) -> jax.Array:
    logits = self.apply_fn(variables, images)
    if logits.ndim != 2 or len(logits) != len(images):
      raise ValueError(
        f"evaluate: logits_fn must return [B, K] = [{len(images)}, K] for images "
        f"{list(images.shape)}, got {list(logits.shape)}."
      )
    return logits.astype(jnp.float32)

  def _score_batch(
    self, variables: Any, images: jax.Array, labels: jax.Array
  ) -> tuple[Scores, jax.Array]:
    logits = self._logits_of(variables, images)
    usable = jnp.isfinite(logits).all(axis=-1) & (labels < logits.shape[-1])
    return scores_of(logits, labels), usable

  def __call__(self, variables: Any, examples: Examples, *, change: Change | None = None) -> Scores:
    """Scores every example once.

    Args:
      variables: of the network.
      examples: labelled pictures.
      change: `(ids, images, labels) -> images` on the devices: what is done to a batch before it
        is scored (a corruption, an attack).

    Raises:
      ValueError: if the network returns something that is not finite logits [B, K], or too few
        classes for the labels.
    """
    variables = self.placed(variables)
    waiting: collections.deque = collections.deque()
    parts: list[tuple[Scores, np.ndarray]] = []

    def read_oldest() -> None:
      result, real = waiting.popleft()
      parts.append(jax.tree.map(lambda values: values[real], jax.device_get(result)))

    for batch in padded_batches(examples, self.batch_for(len(examples))):
      images, labels, ids = self.place((batch.images, batch.labels, batch.ids))
      if change is not None:
        images = change(ids, images, labels)
      waiting.append((self._score(variables, images, labels), batch.real))
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

  def placed(self, variables: Any) -> Any:
    """Replicates arrays, but for those that already live on the mesh, sharded or not."""
    return jax.tree.map(self._placed, variables)

  def _placed(self, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and leaf.sharding.device_set == set(self.mesh.devices.flat):
      return leaf
    return jax.device_put(leaf, mesh_lib.replicated(self.mesh))


def scores_of(logits: jax.Array, labels: jax.Array) -> Scores:
  """Returns what each example contributes, from its logits in float32."""
  probabilities = jax.nn.softmax(logits, axis=-1)
  return Scores(
    metrics.correct(logits, labels).astype(jnp.float32),
    metrics.confidence(probabilities),
    metrics.nll_per_example(logits, labels),
    metrics.brier_per_example(probabilities, labels),
    metrics.max_logit(logits),
    metrics.negative_energy(logits),
  )


def call(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
  """The `ApplyFn` of a function that is its own variables, a `jax.tree_util.Partial`."""
  return logits_fn(images)


def inside_jit(logits_fn: LogitsFn) -> LogitsFn:
  """Returns what `jax.jit` was given: the constants of a jitted function lie out of reach."""
  is_jitted = hasattr(logits_fn, "lower")
  return getattr(logits_fn, "__wrapped__", logits_fn) if is_jitted else logits_fn


def open_up(logits_fn: LogitsFn, image_shape: tuple[int, ...]) -> tuple[ApplyFn, Any]:
  """Splits a closure over parameters into a pure function and the arrays that it closes over.

  As constants of the compiled program the parameters would be copied into it. A
  `jax.tree_util.Partial` is such a pair already.

  Args:
    logits_fn: images -> logits.
    image_shape: [B, H, W, C], the shape that is tried; other numbers of rows are traced on use.

  Raises:
    ValueError: if `logits_fn` cannot be traced or does not return one array.
  """
  if isinstance(logits_fn, jax.tree_util.Partial):
    return call, logits_fn
  inner = inside_jit(logits_fn)
  # A function of its own: JAX caches traces by function, and a module's parameters may change.
  trace = jax.make_jaxpr(lambda images: inner(images))
  try:
    programs = {image_shape: trace(jax.ShapeDtypeStruct(image_shape, jnp.float32))}
  except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
    raise ValueError(
      "evaluate: logits_fn must be made of JAX operations (it is compiled); wrap other code in "
      "jax.pure_callback."
    ) from error
  outputs = programs[image_shape].out_avals
  if len(outputs) != 1:
    raise ValueError(f"evaluate: logits_fn must return one array, got {len(outputs)}.")

  def apply_fn(variables: list[jax.Array], images: jax.Array) -> jax.Array:
    if images.shape not in programs:
      programs[images.shape] = trace(jax.ShapeDtypeStruct(images.shape, jnp.float32))
    program = programs[images.shape].replace(consts=variables)
    return jax.extend.core.jaxpr_as_fun(program)(images)[0]

  return apply_fn, list(programs[image_shape].consts)
