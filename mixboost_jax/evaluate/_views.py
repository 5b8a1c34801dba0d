# SPDX-License-Identifier: Apache-2.0
"""Predictions from several views of a picture.

Paper: Jordan 2024, arXiv:2404.00498, Sec. 3.5: mirror image, and shifts by one pixel with reflected
borders; the logits are averaged.
"""

import jax.numpy as jnp
from jax.tree_util import Partial

from mixboost_jax import checks
from mixboost_jax.array_types import Images, Logits, LogitsFn


def inside_jit(logits_fn: LogitsFn) -> LogitsFn:
  """Returns what `jax.jit` was given: the constants of a jitted function lie out of reach."""
  is_jitted = hasattr(logits_fn, "lower")
  return getattr(logits_fn, "__wrapped__", logits_fn) if is_jitted else logits_fn


def _mirror(logits_fn: LogitsFn, images: Images) -> Logits:
  return (logits_fn(images) + logits_fn(images[:, :, ::-1])) / 2


def _translate(logits_fn: LogitsFn, images: Images) -> Logits:
  height, width = images.shape[1:3]
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
  shifted = [padded[:, i : i + height, i : i + width] for i in (0, 2)]
  moved = sum(_mirror(logits_fn, view) for view in shifted) / 2
  return (_mirror(logits_fn, images) + moved) / 2


_VIEWS = {"mirror": _mirror, "translate": _translate}


@checks.inputs()
def multi_view(logits_fn: LogitsFn, views: str) -> LogitsFn:
  """Returns a function that averages the logits of several views.

  ```python
  mirrored_fn = evaluate.multi_view(logits_fn, "mirror")
  assert jnp.allclose(mirrored_fn(images), mirrored_fn(images[:, :, ::-1]), rtol=1e-4)
  ```

  Args:
    logits_fn: images -> logits.
    views: `one`; `mirror`: the picture and its mirror image, 2 passes; `translate`: half of that
      and half of both moved by a pixel down-right and up-left, 6 passes.

  Raises:
    ValueError: for other views.
  """
  if views == "one":
    return logits_fn
  if views not in _VIEWS:
    raise ValueError(f"views: expected one, {', '.join(_VIEWS)}, got {views!r}.")
  if isinstance(logits_fn, Partial):
    return Partial(_VIEWS[views], logits_fn)
  inner = inside_jit(logits_fn)
  return lambda images: _VIEWS[views](inner, images)
