# SPDX-License-Identifier: Apache-2.0
"""Scores that tell adversarial from clean pictures by what the most sensitive components do.

A score is larger for adversarial pictures. All are functions of callables and differentiable, so an
attack can know them. MI-PL, the third detector beside these two, is `detection_score` of
`mixup_inference`.

Symbols (Yang et al. 2020, arXiv:1906.03499): phi(x)_i = f(x)_c - f(x without i)_c -> attributions,
c -> the predicted class.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, loops, masks
from mixboost_jax.array_types import Images, LogitsFn, PerExample

RANKS = (1, 2, 4, 8, 16)
"""Of the truncated pictures; those below the side of the picture count."""
LayersFn = Callable[[Array], Sequence[Array]]
"""`images[N, H, W, C] -> [hidden[N, ...], ...]`, channels last."""
_TINY = 1e-6


@checks.inputs()
def dispersions(
  logits_fn: LogitsFn,
  images: Images,
  *,
  layers_fn: LayersFn | None = None,
  grid: int = 8,
  fill: float | Float[Array, "..."] = 0.5,
  max_rows: int | None = None,
) -> Float[Array, "N F"]:
  """Returns the logarithm of the dispersion of leave-one-out attributions, output first.

  Paper: Yang et al. 2020, arXiv:1906.03499 (ML-LOO): the interquartile range over features of the
  attributions to the probability of the predicted class, and to neurons of hidden layers.
  Deviation: features are the cells of a grid, not pixels; the neurons of a layer are the means of
  its channels over positions, and their ranges are averaged over the channels.

  ```python
  features = defenses.dispersions(logits_fn, images, grid=4)
  assert features.shape == (8, 1)  # the output alone
  ```

  Args:
    logits_fn: the network.
    images: in [0, 1].
    layers_fn: several hidden layers of the network; None looks at its output alone.
    grid: cells per side; each costs one evaluation.
    fill: of the cell that is left out.
    max_rows: rows per call of the network; see `loops.map_rows`.
  """
  num, cells = images.shape[0], grid * grid
  predicted = jnp.argmax(logits_fn(images), axis=-1)

  def values(rows: Array) -> list[Array]:
    example, cell = rows % num, rows // num  # cell `cells` leaves nothing out
    kept = (jnp.arange(cells)[None] != cell[:, None]).reshape(-1, grid, grid)
    seen = masks.apply(images[example], kept, fill=fill)
    outputs = jax.nn.softmax(logits_fn(seen))
    chosen = jnp.take_along_axis(outputs, predicted[example][:, None], axis=-1)
    hidden = layers_fn(seen) if layers_fn else ()
    return [chosen, *(_neurons(layer) for layer in hidden)]

  found = loops.map_rows(values, (cells + 1) * num, max_rows=max_rows)
  ranges = []
  for layer in found:
    layer = layer.reshape(cells + 1, num, -1)
    attributions = layer[cells:] - layer[:cells]
    high, low = jnp.quantile(attributions, jnp.asarray([0.75, 0.25]), axis=0)
    ranges.append(jnp.log((high - low).mean(axis=-1) + _TINY))
  return jnp.stack(ranges, axis=-1)


def _neurons(layer: Array) -> Float[Array, "N C"]:
  """Returns the mean over positions of each channel."""
  return layer.astype(jnp.float32).reshape(layer.shape[0], -1, layer.shape[-1]).mean(axis=1)


@checks.inputs()
def truncate(images: Images, *, rank: int) -> Float[Array, "N H W C"]:
  """Returns each channel's best approximation of a rank, by its largest singular values.

  Paper: Jere et al. 2020, arXiv:2012.03516.

  The directions are taken for constants by a gradient, since theirs is infinite where two singular
  values meet; the values are exact.

  ```python
  smooth = defenses.truncate(images, rank=4)
  assert jnp.allclose(defenses.truncate(images, rank=16), images, atol=1e-5)  # full rank
  ```
  """
  if not 1 <= rank <= min(images.shape[1:3]):
    limit = min(images.shape[1:3])
    raise ValueError(f"defenses.truncate: rank must be in [1, {limit}], got {rank}.")
  channels = jnp.moveaxis(images, -1, 1)
  left, _, _ = jnp.linalg.svd(jax.lax.stop_gradient(channels), full_matrices=False)
  kept = left[..., :rank]
  return jnp.moveaxis(kept @ (jnp.swapaxes(kept, -1, -2) @ channels), 1, -1)


@checks.inputs()
def rank_score(logits_fn: LogitsFn, images: Images, *, ranks: Sequence[int] = RANKS) -> PerExample:
  """Returns how much the probability of the predicted class falls on pictures of low rank.

  It is the mean fall over `ranks`; those that the picture cannot have are left out. An adversarial
  perturbation lives in the small singular values, which truncation removes.

  Paper: Jere et al. 2020, arXiv:2012.03516 (rank-based features), read as a detector in the slides
  on interactions: it looks for the highest-order, most sensitive component.
  Deviation: neither prints a formula of the detector; this one is that of `detection_score` with
  truncation as the defense.

  ```python
  scores = defenses.rank_score(logits_fn, images)
  ```
  """
  outputs = jax.nn.softmax(logits_fn(images))
  predicted = jnp.argmax(outputs, axis=-1)[:, None]
  usable = [rank for rank in ranks if rank < min(images.shape[1:3])]
  if not usable:
    raise ValueError(f"defenses.rank_score: no rank of {list(ranks)} is below the picture's side.")
  truncated = jnp.concatenate([truncate(images, rank=rank) for rank in usable])
  low = jax.nn.softmax(logits_fn(truncated)).reshape(len(usable), *outputs.shape).mean(axis=0)
  return jnp.take_along_axis(outputs - low, predicted, axis=-1)[:, 0]


@checks.inputs()
def fit_detector(
  features: Float[np.ndarray, "N F"],
  is_adversarial: Bool[np.ndarray, " N"],
  *,
  penalty: float = 1e-2,
  num_steps: int = 50,
) -> tuple[Float[np.ndarray, " F"], float]:
  """Returns weights and offset of the logistic regression of `is_adversarial` on the features.

  Features are standardised before they are fitted, by Newton's method with an l2 penalty (of the
  mean loss) on the weights; the result applies to the features as they are.

  ```python
  features = np.array([[0.1, 3.0], [0.2, 1.0], [0.8, 2.0], [0.9, 2.5]])
  weights, offset = defenses.fit_detector(features, np.array([False, False, True, True]))
  assert (features @ weights + offset > 0).tolist() == [False, False, True, True]
  ```
  """
  center, scale = features.mean(0), features.std(0) + _TINY
  rows = np.column_stack([(features - center) / scale, np.ones(len(features))]).astype(np.float64)
  ridge = penalty * np.append(np.ones(features.shape[1]), 0.0)
  ridge[-1] = 1e-9
  weights = np.zeros(rows.shape[1])
  for _ in range(num_steps):
    chance = 0.5 * (1 + np.tanh(0.5 * rows @ weights))
    slope = rows.T @ (chance - is_adversarial) / len(rows) + ridge * weights
    curvature = (rows.T * (chance * (1 - chance))) @ rows / len(rows) + np.diag(ridge)
    weights -= np.linalg.solve(curvature, slope)
  plain = weights[:-1] / scale
  return plain, float(weights[-1] - plain @ center)
