# SPDX-License-Identifier: Apache-2.0
"""The forward pass over the clean view and its masked views.

One forward of all views ("fused") and one forward per view ("separate") are mathematically equal:
each view is normalised by its own batch statistics. Separate forwards are faster on CPU, one large
forward fills an accelerator better.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mixboost_jax.array_types import Images, Logits, PRNGKeys

Apply = Callable[..., tuple[Logits, Any]]


def is_fused(view_forward: str, batchnorm_views: str) -> bool:
  """Decides for "auto": fused where statistics are joint and on accelerators."""
  if view_forward != "auto":
    return view_forward == "fused"
  return batchnorm_views == "joint" or jax.default_backend() != "cpu"


def forward(
  apply: Apply,
  params: Any,
  stats: Any,
  views: Sequence[Images],
  *,
  fused: bool,
  batchnorm_views: str,
  dropout_keys: Sequence[PRNGKeys] | None,
) -> tuple[list[Logits], Any]:
  """Returns the training-mode logits of each view and the new running statistics.

  Args:
    apply: `models.functional(model).apply`.
    params: network parameters.
    stats: running statistics.
    views: the clean view first.
    fused: one forward of all views, or one per view.
    batchnorm_views: "clean", "both" or "joint": which views feed the running statistics.
    dropout_keys: per view, one key per example; None without dropout.
  """
  if fused and len(views) > 1:
    return _fused(apply, params, stats, views, batchnorm_views, dropout_keys)
  logits, new_stats = [], stats
  for index, images in enumerate(views):
    keys = None if dropout_keys is None else dropout_keys[index]
    out, updated = apply(params, new_stats, images, train=True, dropout_keys=keys)
    logits.append(out)
    if index == 0 or batchnorm_views == "both":
      new_stats = updated
  return logits, new_stats


def _fused(
  apply: Apply,
  params: Any,
  stats: Any,
  views: Sequence[Images],
  batchnorm_views: str,
  dropout_keys: Sequence[PRNGKeys] | None,
) -> tuple[list[Logits], Any]:
  """Views of one example are neighbouring rows, so a batch split over devices stays where it is."""
  num_views = len(views)
  rows = jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])
  keys = None if dropout_keys is None else jnp.stack(list(dropout_keys), axis=1).reshape(-1)
  out, new_stats = apply(
    params,
    stats,
    rows,
    train=True,
    num_views=num_views,
    batchnorm_views=batchnorm_views,
    dropout_keys=keys,
  )
  by_view = out.reshape(-1, num_views, out.shape[-1])
  return [by_view[:, view] for view in range(num_views)], new_stats
