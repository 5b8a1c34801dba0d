# SPDX-License-Identifier: Apache-2.0
"""How far made pictures are from real ones, by the features of a network: FID and KID.

The network is the caller's: these are functions of features `[N, D]`, one row per picture, in
float64 on the host. Published FIDs are those of Inception v3 (its last pooling, D = 2,048, 50,000
pictures); with other features the numbers are comparable among themselves only, and are called
proxies here.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixboost_jax import checks

Features = Float[np.ndarray, "N D"]
OtherFeatures = Float[np.ndarray, "M D"]


class Moments(NamedTuple):
  """What FID keeps of a set of pictures."""

  mean: Float[np.ndarray, " D"]
  covariance: Float[np.ndarray, "D D"]
  count: int


class KernelDistance(NamedTuple):
  """KID as the mean over blocks of pictures; it is unbiased, so it may be negative."""

  value: float
  stderr: float
  """Standard error over the blocks; NaN for one block."""
  num_blocks: int


@checks.inputs()
def feature_moments(features: Features) -> Moments:
  """Returns mean and (unbiased) covariance of the rows, at least two.

  ```python
  features = np.asarray(logits_fn(images))  # or another layer, of any network
  moments = metrics.feature_moments(features)
  ```
  """
  if len(features) < 2:
    raise ValueError(f"feature_moments: features: expected at least 2 rows, got {len(features)}.")
  rows = np.asarray(features, np.float64)
  return Moments(rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False)), len(rows))


@checks.inputs()
def frechet_distance(first: Moments, second: Moments) -> float:
  """Returns ||m1 - m2||^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), FID if the features are Inception's.

  ```python
  real, made = (metrics.feature_moments(np.asarray(logits_fn(x))) for x in (images, 1 - images))
  distance = metrics.frechet_distance(real, made)
  ```

  Paper: Heusel et al. 2017, arXiv:1706.08500.
  Deviation: the trace of (S1 S2)^(1/2) is that of (R S2 R)^(1/2) with R = S1^(1/2), by two
    decompositions of symmetric matrices whose negative eigenvalues (rounding, or fewer pictures
    than features) count as 0. No complex root appears, and nothing is added to a diagonal.
  """
  if first.mean.shape != second.mean.shape:
    raise ValueError(
      f"frechet_distance: second: expected {first.mean.shape[0]} features as in first, got "
      f"{second.mean.shape[0]}; both sets need the same network."
    )
  root = _symmetric_root(first.covariance)
  product = root @ second.covariance @ root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  shared = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
  apart = np.sum((first.mean - second.mean) ** 2)
  found = apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * shared
  return float(max(found, 0.0))


def _symmetric_root(matrix: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
  values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
  return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


@checks.inputs()
def kernel_distance(
  first: Features, second: OtherFeatures, *, num_blocks: int = 10
) -> KernelDistance:
  """Returns KID: the unbiased squared MMD of the kernel (x y / D + 1)^3, over blocks.

  ```python
  real, made = (np.asarray(logits_fn(x)) for x in (images, 1 - images))
  distance = metrics.kernel_distance(real, made, num_blocks=2)
  ```

  Paper: Bińkowski et al. 2018, arXiv:1801.01401.
  Deviation: the blocks are disjoint parts of both sets in their order, not overlapping draws, so
    that their spread gives a standard error. Shuffle sets that are sorted.

  Args:
    first: features of one set.
    second: of the other; the longer one is cut to the length of the shorter.
    num_blocks: parts, of at least two pictures each.
  """
  size = min(len(first), len(second)) // max(num_blocks, 1)
  if num_blocks < 1 or size < 2:
    raise ValueError(
      f"kernel_distance: num_blocks: expected at least 1 and at most half of the "
      f"{min(len(first), len(second))} pictures, got {num_blocks}."
    )
  parts = [slice(i * size, (i + 1) * size) for i in range(num_blocks)]
  found = np.array([_squared_mmd(first[part], second[part]) for part in parts])
  spread = found.std(ddof=1) / np.sqrt(num_blocks) if num_blocks > 1 else np.nan
  return KernelDistance(float(found.mean()), float(spread), num_blocks)


def _squared_mmd(first: Features, second: Features) -> float:
  """The unbiased estimate for two sets of one size: no picture is compared with itself."""
  x, y = (np.asarray(rows, np.float64) for rows in (first, second))
  size, width = x.shape

  def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / width + 1) ** 3

  def among(rows: np.ndarray) -> float:
    table = kernel(rows, rows)
    return (table.sum() - np.trace(table)) / (size * (size - 1))

  return among(x) + among(y) - 2 * kernel(x, y).mean()
