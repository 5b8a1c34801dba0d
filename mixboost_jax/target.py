# SPDX-License-Identifier: Apache-2.0
"""The platform that programs are traced for. It decides their formulation, the host does not.

How a convolution gets its gradient, whether a loop is rewritten, whether views share a forward pass
and whether augmentation goes example by example depends on where a program will run. That is the
platform of the mesh it is compiled for, which may be absent; only without one is it the default of
this process. Nobody else asks `jax.default_backend()`.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

_PLATFORM = jax.make_user_context("")  # part of the key of every trace that JAX keeps


def platform() -> str:
  """Returns "cpu", "gpu" or "tpu"."""
  return _PLATFORM.value or jax.default_backend()


def is_cpu() -> bool:
  """Returns whether programs are traced for XLA:CPU."""
  return platform() == "cpu"


def is_tpu() -> bool:
  """Returns whether programs are traced for a TPU."""
  return platform() == "tpu"


def compiling_for(place: Mesh | str) -> contextlib.AbstractContextManager[Any]:
  """Makes `platform` answer for a mesh, or for a platform by name, within a `with` block."""
  return _PLATFORM(place if isinstance(place, str) else place.devices.flat[0].platform)


def traced_for(place: Mesh | str, function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `function`; whoever traces it, in any thread, traces it for that mesh or platform."""

  @functools.wraps(function)
  def run(*arguments: Any, **options: Any) -> Any:
    with compiling_for(place):
      return function(*arguments, **options)

  return run


_ON_PAPER = contextvars.ContextVar("on_paper", default=False)


@contextlib.contextmanager
def on_paper() -> Iterator[None]:
  """Within it a run is built of shapes: its devices may be absent, and nothing takes memory."""
  token = _ON_PAPER.set(True)
  try:
    yield
  finally:
    _ON_PAPER.reset(token)


def is_on_paper() -> bool:
  """Returns whether arrays are to be shapes only."""
  return _ON_PAPER.get()
