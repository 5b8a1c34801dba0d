# SPDX-License-Identifier: Apache-2.0
"""One network and the examples it is measured on: their scores, and the programs compiled for it.

Parameters are arguments of what is compiled, never constants in it, so that other values of them
need no new program.
"""

import collections
import dataclasses
import functools
import weakref
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mixboost_jax import checks, corruptions, metrics, target
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate._examples import Examples, Unit, padded_batches
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._store import Columns, constants_of, program_text
from mixboost_jax.evaluate._views import inside_jit, multi_view
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.mesh import AXES

ApplyFn = Callable[[Any, jax.Array], jax.Array]
"""`(variables, images) -> logits` in evaluation mode."""
Change = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(ids[B], images[B, H, W, C], labels[B]) -> images`; a row depends on its own id only."""
HOLDS_PARAMETERS = "holds parameters"
"""Last part of the name of a program that has the parameters as constants all the same."""
MAX_DRAWINGS = 256
"""Programs of `Session.drawing` that are remembered, some 5 MB each: `full` has 170 units."""
MAX_SHAPES = 4
"""Batch shapes of one network whose programs are remembered."""
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
    """Batches of `batch_size`, rounded up, are split over the devices of the mesh (None: all)."""
    if batch_size < 1:
      raise ValueError(f"evaluate: batch_size must be >= 1, got {batch_size}.")
    self.mesh = mesh_lib.create() if mesh is None else mesh
    self.batch_size = self.rounded(batch_size)
    self.apply_fn = apply_fn
    whole = mesh_lib.replicated(self.mesh)
    traced = functools.partial(target.traced_for, self.mesh)
    self._score = jax.jit(traced(self._score_batch), out_shardings=whole)
    self.logits = jax.jit(traced(self._logits_of), out_shardings=whole)
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
    """Scores every example once, after what `change` does to a batch (a corruption, an attack).

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
    devices, whole = set(self.mesh.devices.flat), mesh_lib.replicated(self.mesh)

    def place(leaf: Any) -> Any:
      is_there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices
      return leaf if is_there else jax.device_put(leaf, whole)

    return jax.tree.map(place, variables)


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


def open_up(logits_fn: LogitsFn, image_shape: tuple[int, ...]) -> tuple[ApplyFn, Any]:
  """Splits a closure over parameters into a pure function and the arrays that it closes over.

  As constants of the compiled program the parameters would be copied into it. A
  `jax.tree_util.Partial` is such a pair already. The function is tried on [B, H, W, C] =
  `image_shape`; other numbers of rows are traced on use.

  ```python
  apply_fn, variables = evaluate.open_up(logits_fn, images.shape)
  assert jnp.allclose(apply_fn(variables, images), logits_fn(images))
  ```

  Raises:
    ValueError: if `logits_fn` cannot be traced or does not return one array.
  """
  if isinstance(logits_fn, jax.tree_util.Partial):
    return call, logits_fn
  inner = inside_jit(logits_fn)
  # A function of its own: JAX caches traces by function, and a module's parameters may change.
  trace = jax.make_jaxpr(lambda images: inner(images))
  with checks.tracing("evaluate: logits_fn"):
    programs = {image_shape: trace(jax.ShapeDtypeStruct(image_shape, jnp.float32))}
  outputs = programs[image_shape].out_avals
  if len(outputs) != 1:
    raise ValueError(f"evaluate: logits_fn must return one array, got {len(outputs)}.")

  def apply_fn(variables: list[jax.Array], images: jax.Array) -> jax.Array:
    if images.shape not in programs:
      programs[images.shape] = trace(jax.ShapeDtypeStruct(images.shape, jnp.float32))
    program = programs[images.shape].replace(consts=variables)
    return jax.extend.core.jaxpr_as_fun(program)(images)[0]

  return apply_fn, list(programs[image_shape].consts)


@dataclasses.dataclass(frozen=True)
class Session:
  """One network and the examples that it is measured on.

  All draws hang on the ids of the examples and on the unit, not on a run: every network sees the
  same corrupted pictures, whatever the batch size and the number of devices.
  """

  scorer: Scorer
  variables: Any
  """Of the network, on the devices."""
  examples: Examples
  foreign_sets: dict[str, np.ndarray]
  """Name -> uint8[N, H, W, C] of out-of-distribution sets that were read from folders."""
  held_out: Examples | None = None
  """Where a temperature is fitted; None: on the other half of the examples."""
  released: Released | None = None
  """Published files, for units that are read from them."""
  programs: dict[Any, Any] = dataclasses.field(default_factory=dict)
  """What was compiled for the network: by unit, by (unit, more) where more decides, or by check."""

  def program(self, name: Any, build: Callable[[], Any]) -> Any:
    """Returns the program of a unit or a check; pieces of one unit share it."""
    if name not in self.programs:
      self.programs[name] = build()
    return self.programs[name]

  def drawing(self, name: Any, build: Callable[[], Any]) -> Any:
    """Returns a program that makes pictures: it knows of no network, so that all share it."""
    name = (self.scorer.mesh, self.image_shape, name)
    found = _DRAWINGS.get(name)
    if found is None:
      found = _DRAWINGS[name] = build()
    for oldest in list(_DRAWINGS)[:-MAX_DRAWINGS]:
      _DRAWINGS.pop(oldest, None)
    return found

  def part(self, start: int, stop: int) -> Examples:
    """Returns places `start` to `stop` of the examples in their order."""
    return self.examples.take(self.examples.order[start:stop])

  @functools.cached_property
  def num_classes(self) -> int:
    """Columns of the logits."""
    images = jax.ShapeDtypeStruct((self.scorer.mesh.size, *self.image_shape), jnp.float32)
    return jax.eval_shape(self.scorer.logits, self.variables, images).shape[-1]

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width, channels."""
    height, width, channels = self.examples.images.shape[1:]
    return height, width, channels

  @property
  def table(self) -> str:
    """Whose constants and lists pictures of this size take: "cifar" or "imagenet"."""
    height, width, _ = self.image_shape
    return corruptions.choose_table("auto", height=height, width=width)

  def over_devices(self, fn: Callable[..., Any]) -> Any:
    """Compiles a function of batches that treats rows independently; each device takes its part."""
    batch = PartitionSpec(AXES)
    return jax.jit(
      jax.shard_map(fn, mesh=self.scorer.mesh, in_specs=batch, out_specs=batch, check_vma=False)
    )


class Network(NamedTuple):
  """A network that was opened up, and what has been compiled for it."""

  scorer: Scorer
  given: Any
  """Its parameters as they came."""
  placed: Any
  """The same on the devices."""
  programs: dict[Any, Any]
  """See `Session.programs`."""
  identity: str
  """Of what it computes, parameters left out."""
  constants: list[Any]
  """Inside inner programs, where they cannot become arguments."""


_DRAWINGS: dict[Any, Any] = {}
"""What `Session.drawing` has compiled, oldest first."""
_NETWORKS: weakref.WeakKeyDictionary[Any, dict[Any, Network]] = weakref.WeakKeyDictionary()
"""What earlier calls have compiled; forgotten with the function that stands for the network."""


@checks.inputs()
def open_network(
  logits_fn: LogitsFn, batch_shape: tuple[int, ...], mesh: Mesh, *, views: str = "one"
) -> Network:
  """Opens a network up; for a function seen before, nothing is compiled again.

  The function is traced anew in any case: the parameters that it closes over may have changed.
  What was compiled takes them as arguments; it serves again if the rest of the program is the same.
  `logits_fn` has to live as long as what is returned is used; `batch_shape` is [B, H, W, C];
  `views` as of `multi_view`.
  """
  apply_fn, given = open_up(multi_view(_held_weakly(logits_fn), views), batch_shape)
  one = jax.ShapeDtypeStruct((1, *batch_shape[1:]), jnp.float32)
  program = jax.make_jaxpr(apply_fn)(given, one)
  identity, constants = program_text(program), list(constants_of(program))
  try:
    known = _NETWORKS.setdefault(logits_fn, {})
  except TypeError:  # cannot be hashed or weakly referenced
    known = {}
  before = known.get((batch_shape, mesh, views))
  if before is not None and before.identity == identity and _same(before.constants, constants):
    if not _same(jax.tree.leaves(before.given), jax.tree.leaves(given)):
      kept = {
        name: program
        for name, program in before.programs.items()
        if not (isinstance(name, tuple) and name[-1] == HOLDS_PARAMETERS)
      }
      before = before._replace(given=given, placed=before.scorer.placed(given), programs=kept)
    found = before
  else:
    scorer = Scorer(apply_fn, batch_size=batch_shape[0], mesh=mesh)
    found = Network(scorer, given, scorer.placed(given), {}, identity, constants)
  known[batch_shape, mesh, views] = found
  for oldest in list(known)[:-MAX_SHAPES]:
    del known[oldest]
  return found


def _held_weakly(logits_fn: LogitsFn) -> LogitsFn:
  """Returns a function that does not keep `logits_fn` alive, so that it can be forgotten."""
  if isinstance(logits_fn, jax.tree_util.Partial):
    return logits_fn
  reference = weakref.ref(inside_jit(logits_fn))

  def run(images: jax.Array) -> jax.Array:
    function = reference()
    assert function is not None
    return function(images)

  return run


def _same(one: list[Any], other: list[Any]) -> bool:
  """Returns whether two lists hold the same arrays; those of NumPy may have changed inside."""
  return len(one) == len(other) and all(
    a is b and isinstance(a, jax.Array) for a, b in zip(one, other, strict=True)
  )


def tag_of(unit: Unit) -> int:
  """Returns the number by which the draws of a unit differ from those of others."""
  return zlib.crc32(f"{unit.member}:{unit.severity}".encode()) % 2**31


def columns_of(scores: Any) -> Columns:
  """Returns the fields of `Scores` by name."""
  return {name: np.asarray(values) for name, values in scores._asdict().items()}
