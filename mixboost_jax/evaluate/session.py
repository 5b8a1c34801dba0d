# SPDX-License-Identifier: Apache-2.0
"""One network, the examples it is measured on, and the programs compiled for it.

All draws hang on the ids of the examples and on the unit, not on a run: every network sees the same
corrupted pictures, whatever the batch size and the number of devices.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.released import Released
from mixboost_jax.evaluate.scoring import Scorer
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.runtime.mesh import AXES

MAX_PROGRAMS = 8
"""Compiled units that a session remembers."""


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
  """What was compiled for the last units: by unit, or by (unit, rows) if compiled ahead."""

  def program(self, unit: Unit, build: Callable[[], Any]) -> Any:
    """Returns the program of a unit; pieces of one unit share it."""
    if unit not in self.programs:
      self.keep(unit, build())
    return self.programs[unit]

  def keep(self, name: Any, program: Any) -> None:
    """Keeps a program until `MAX_PROGRAMS` others have come."""
    self.programs[name] = program
    for oldest in list(self.programs)[:-MAX_PROGRAMS]:
      del self.programs[oldest]

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


def tag_of(unit: Unit) -> int:
  """Returns the number by which the draws of a unit differ from those of others."""
  return zlib.crc32(f"{unit.member}:{unit.severity}".encode()) % 2**31


def columns_of(scores: Any) -> Columns:
  """Returns the fields of `Scores` by name."""
  return {name: np.asarray(values) for name, values in scores._asdict().items()}
