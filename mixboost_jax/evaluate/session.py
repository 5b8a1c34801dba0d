# SPDX-License-Identifier: Apache-2.0
"""One network, the examples it is measured on, and the programs compiled for it.

All draws hang on the ids of the examples and on the unit, not on a run: every network sees the same
corrupted pictures, whatever the batch size and the number of devices.
"""

import dataclasses
import functools
import weakref
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import scoring
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.released import Released
from mixboost_jax.evaluate.scoring import Scorer
from mixboost_jax.evaluate.store import Columns, constants_of, program_text
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.runtime.mesh import AXES

MAX_PROGRAMS = 8
"""Compiled units that a session remembers."""
MAX_SHAPES = 4
"""Batch shapes of one network whose programs are remembered."""


@dataclasses.dataclass(frozen=True)
class Session:
  """One network and the examples that it is measured on."""

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
  """What was compiled: by unit, or by (unit, more) where more decides; checks by a string."""

  def program(self, name: Any, build: Callable[[], Any]) -> Any:
    """Returns the program of a unit or a check; pieces of one unit share it."""
    found = self.programs.get(name)
    if found is None:
      found = build()
      self.keep(name, found)
    return found

  def keep(self, name: Any, program: Any) -> None:
    """Keeps the program of a unit until `MAX_PROGRAMS` others have come, that of a check always."""
    self.programs[name] = program
    units = [one for one in list(self.programs) if not isinstance(one, str)]
    for oldest in units[:-MAX_PROGRAMS]:
      self.programs.pop(oldest, None)

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

  def over_devices(self, fn: Callable[..., Any]) -> Any:
    """Compiles a function of batches that treats rows independently; each device takes its part."""
    batch = PartitionSpec(AXES)
    return jax.jit(
      jax.shard_map(fn, mesh=self.scorer.mesh, in_specs=batch, out_specs=batch, check_vma=False)
    )


class Network(NamedTuple):
  """A network that was opened up, and what has been compiled for it.

  Attributes:
    scorer: of its batches.
    given: its parameters as they came.
    placed: the same on the devices.
    programs: see `Session.programs`.
    identity: of what it computes, parameters left out.
    constants: arrays inside inner programs, where they cannot become arguments.
  """

  scorer: scoring.Scorer
  given: Any
  placed: Any
  programs: dict[Any, Any]
  identity: str
  constants: list[Any]


_NETWORKS: weakref.WeakKeyDictionary[Any, dict[Any, Network]] = weakref.WeakKeyDictionary()
"""What earlier calls have compiled; forgotten with the function that stands for the network."""


def open_network(logits_fn: LogitsFn, batch_shape: tuple[int, ...], mesh: Mesh) -> Network:
  """Opens a network up; for a function seen before, nothing is compiled again.

  The function is traced anew in any case: the parameters that it closes over may have changed.
  What was compiled takes them as arguments; it serves again if the rest of the program is the same.

  Args:
    logits_fn: as for `evaluate`; has to live as long as what is returned is used.
    batch_shape: [B, H, W, C].
    mesh: devices that share a batch.
  """
  apply_fn, given = scoring.open_up(_held_weakly(logits_fn), batch_shape)
  one = jax.ShapeDtypeStruct((1, *batch_shape[1:]), jnp.float32)
  program = jax.make_jaxpr(apply_fn)(given, one)
  identity, constants = program_text(program), list(constants_of(program))
  try:
    known = _NETWORKS.setdefault(logits_fn, {})
  except TypeError:  # cannot be hashed or weakly referenced
    known = {}
  before = known.get((batch_shape, mesh))
  if before is not None and before.identity == identity and _same(before.constants, constants):
    if not _same(jax.tree.leaves(before.given), jax.tree.leaves(given)):
      placed = before.scorer.placed(given)
      kept = {name: one for name, one in before.programs.items() if not _holds_parameters(name)}
      before = before._replace(given=given, placed=placed, programs=kept)
    found = before
  else:
    scorer = scoring.Scorer(apply_fn, batch_size=batch_shape[0], mesh=mesh)
    found = Network(scorer, given, scorer.placed(given), {}, identity, constants)
  known[batch_shape, mesh] = found
  for oldest in list(known)[:-MAX_SHAPES]:
    del known[oldest]
  return found


def _held_weakly(logits_fn: LogitsFn) -> LogitsFn:
  """Returns a function that does not keep `logits_fn` alive, so that it can be forgotten."""
  if isinstance(logits_fn, jax.tree_util.Partial):
    return logits_fn
  reference = weakref.ref(scoring.inside_jit(logits_fn))

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


def _holds_parameters(name: Any) -> bool:
  return isinstance(name, Unit) and name.kind == "autoattack"


def tag_of(unit: Unit) -> int:
  """Returns the number by which the draws of a unit differ from those of others."""
  return zlib.crc32(f"{unit.member}:{unit.severity}".encode()) % 2**31


def columns_of(scores: Any) -> Columns:
  """Returns the fields of `Scores` by name."""
  return {name: np.asarray(values) for name, values in scores._asdict().items()}
