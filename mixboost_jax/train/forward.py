# SPDX-License-Identifier: Apache-2.0
"""The forward pass over the pictures of a batch and their masked views.

The first view holds all pictures (several per example with augmented or adversarial pictures
beside the clean ones): they are one batch for the normalisation layers, as in AugMix (Hendrycks et
al. 2020) and interpolated adversarial training (Lamb et al. 2019). Masked views are further views.

One forward of all views ("fused") and one forward per view ("separate") are mathematically equal:
each view is normalised by its own batch statistics. Separate forwards are faster on CPU, one large
forward fills an accelerator better. Views of unequal size (a masked view of only some pictures)
go into one forward only where their statistics are joint.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import target
from mixboost_jax.array_types import PRNGKeys

Rows = Float[Array, "_ H W C"]
Apply = Callable[..., tuple[Array, Any]]


def is_fused(view_forward: str, batchnorm_views: str) -> bool:
  """Decides for "auto": fused where statistics are joint and on accelerators."""
  if view_forward != "auto":
    return view_forward == "fused"
  return batchnorm_views == "joint" or not target.is_cpu()


def of_views(
  apply: Apply,
  params: Any,
  stats: Any,
  views: Sequence[Rows],
  *,
  fused: bool,
  batchnorm_views: str,
  dropout_keys: Sequence[PRNGKeys] | None,
) -> tuple[list[Array], Any]:
  """Returns the training-mode logits of each view and the new running statistics.

  Args:
    apply: `models.functional(model).apply`.
    params: network parameters.
    stats: running statistics.
    views: the pictures first. Rows are grouped by example.
    fused: one forward of all views, or one per view.
    batchnorm_views: "clean", "both" or "joint": which views feed the running statistics; "clean"
      stands for the pictures, whatever their number.
    dropout_keys: per view, one key per row; None without dropout.
  """
  equal = len({len(images) for images in views}) == 1
  if fused and len(views) > 1 and (equal or batchnorm_views == "joint"):
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
  views: Sequence[Rows],
  batchnorm_views: str,
  dropout_keys: Sequence[PRNGKeys] | None,
) -> tuple[list[Array], Any]:
  """Views of one example are neighbouring rows, so a batch split over devices stays where it is."""
  num = min(len(images) for images in views)  # groups of rows: examples, or pictures
  sizes = [len(images) // num for images in views]

  def grouped(parts: Sequence[Any]) -> Any:
    pieces = [x.reshape(num, size, *x.shape[1:]) for x, size in zip(parts, sizes, strict=True)]
    joined = jnp.concatenate(pieces, axis=1)
    return joined.reshape(-1, *joined.shape[2:])

  out, new_stats = apply(
    params,
    stats,
    grouped(views),
    train=True,
    num_views=1 if batchnorm_views == "joint" else len(views),
    batchnorm_views=batchnorm_views,
    dropout_keys=None if dropout_keys is None else grouped(dropout_keys),
  )
  by_group = out.reshape(num, -1, out.shape[-1])
  ends = np.cumsum(sizes)
  return [
    by_group[:, end - size : end].reshape(-1, out.shape[-1])
    for size, end in zip(sizes, ends, strict=True)
  ], new_stats
