# SPDX-License-Identifier: Apache-2.0
"""Square attack: a random search that sees the logits only.

Paper: Andriushchenko et al. 2020, arXiv:1912.00049, Alg. 1 to 3; Sec. 4.3 for the L2 ball.

Symbols: nu, eta -> bump, W -> windows, h -> side.

Deviation: each example draws its own window from its own key, so its result does not depend on the
batch around it; the authors' code shares one window per batch and iteration.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Image, Images, Labels, PerExample, PRNGKey, PRNGKeys
from mixboost_jax.attacks import _balls, _predictors, _stage
from mixboost_jax.attacks._balls import Epsilon

_KINKS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Iterations after which the area of the window halves (doubling gaps, 10,000 queries)."""

_TINY = 1e-12

Index = int | Int[Array, ""]


class Query(NamedTuple):
  """One row of the schedule: number of the query and side of its window."""

  index: Int[Array, "..."]
  side: Int[Array, "..."]


class State(NamedTuple):
  """Everything an example carries along; see `Stage`."""

  keys: PRNGKeys
  clean: Images
  labels: Labels
  images: Images
  loss: PerExample
  fooled: Bool[Array, " N"]


def area_share(index: int, *, initial: float = 0.8) -> float:
  """Returns the share of the image that query `index` may change.

  Paper: Sec. 4.2, the schedule for 10,000 queries used as it is (no rescaling).
  """
  return initial / 2 ** sum(index > kink for kink in _KINKS)


def schedule(num_queries: int, *, height: int, width: int, norm: str, initial: float) -> Query:
  """Returns the side of the window of each query (odd and at least 3 for "l2")."""
  sides = []
  for index in range(num_queries):
    side = round((area_share(index, initial=initial) * height * width) ** 0.5)
    if norm == "l2":
      side = max(side, 3)
      side += 1 - side % 2
    sides.append(min(max(side, 1), height, width))
  return Query(jnp.arange(num_queries), jnp.asarray(np.asarray(sides, np.int32)))


def stripes(key: PRNGKey, image: Image, epsilon: Epsilon) -> Image:
  """Starts from vertical stripes of width 1 and value +-epsilon in each channel."""
  shape = (1, image.shape[1], image.shape[2])
  signs = jax.random.rademacher(key, shape, image.dtype)
  return image + epsilon * jnp.broadcast_to(signs, image.shape)


class Window(NamedTuple):
  """A square of an image: which pixels it holds, and their rows and columns from its corner."""

  inside: Bool[Array, "H W"]
  rows: Int[Array, "H W"]
  columns: Int[Array, "H W"]


def random_window(key: PRNGKey, side: Index, *, height: int, width: int) -> Window:
  """Draws a square (its last offset is left out, as by the authors)."""
  limits = jnp.array([height, width]) - side
  top, left = jnp.floor(jax.random.uniform(key, (2,)) * limits).astype(jnp.int32)
  rows, columns = jnp.meshgrid(jnp.arange(height) - top, jnp.arange(width) - left, indexing="ij")
  return Window((rows >= 0) & (rows < side) & (columns >= 0) & (columns < side), rows, columns)


def propose(key: PRNGKey, image: Image, _clean: Image, side: Index, epsilon: Epsilon) -> Image:
  """Adds +-2 epsilon per channel inside a random square; the projection is left to the caller."""
  key_corner, key_sign = jax.random.split(key)
  height, width, channels = image.shape
  square = random_window(key_corner, side, height=height, width=width)
  signs = jax.random.rademacher(key_sign, (1, 1, channels), image.dtype)
  return image + 2 * epsilon * signs * square.inside[..., None]


class Moves(NamedTuple):
  """How a norm starts and goes on: `(key, image, epsilon)` and `(key, image, clean, side, eps)`."""

  start: Callable[..., Float[Array, "H W C"]]
  propose: Callable[..., Float[Array, "H W C"]]


def bump(
  rows: Int[Array, "H W"], columns: Int[Array, "H W"], *, height: Index, width: Index, largest: int
) -> Float[Array, "H W"]:
  """Evaluates one hill of a window, before it is normalised; 0 outside of its rectangle.

  Paper: eq. 2. Squares of growing radius around the centre are added, the r-th with weight
  `1 / (r + 1)**2`, so a cell at (Chebyshev) distance r has the tail of that sum from r on.

  Args:
    rows: row of each pixel from the top of the hill.
    columns: column of each pixel from its left edge.
    height: rows of the hill.
    width: columns of the hill.
    largest: upper bound of both sides.
  """
  weights = 1.0 / (np.arange(largest + 1) + 1.0) ** 2
  sums = jnp.asarray(np.concatenate([[0.0], np.cumsum(weights)]), jnp.float32)
  distance = jnp.maximum(jnp.abs(rows - height // 2), jnp.abs(columns - width // 2))
  levels = jnp.maximum(height // 2, width // 2) + 1
  value = sums[levels] - sums[jnp.clip(distance, 0, levels)]
  inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
  return jnp.where(inside, value, 0.0)


def two_hills(
  rows: Int[Array, "H W"],
  columns: Int[Array, "H W"],
  side: Index,
  *,
  transpose: bool | Array,
  largest: int,
) -> Float[Array, "H W"]:
  """Evaluates a window: one positive and one negative half, of unit L2 norm.

  The halves lie on top of each other, or side by side if `transpose`; see `bump` for the rest.
  """
  first = jnp.where(transpose, columns, rows)
  second = jnp.where(transpose, rows, columns)
  half = side // 2
  upper = _unit(bump(first, second, height=half, width=side, largest=largest))
  lower = _unit(bump(first - half, second, height=side - half, width=side, largest=largest))
  return _unit(upper - lower)


def _unit(values: Array) -> Array:
  return values / jnp.maximum(jnp.sqrt(jnp.sum(values**2)), _TINY)


def tiles(key: PRNGKey, image: Image, epsilon: Epsilon) -> Image:
  """Starts from a grid of about 5 x 5 windows with a random sign each, scaled to the radius."""
  height, width, channels = image.shape
  side = max(min(height, width) // 5, 1)
  margin = max(min(height, width) - side * 5, 0) // 2
  counts = ((height - margin) // side, (width - margin) // side)
  key_sign, key_turn = jax.random.split(key)
  signs = jax.random.rademacher(key_sign, (*counts, channels), image.dtype)
  turns = jax.random.bernoulli(key_turn, 0.5, counts)
  rows, columns = jnp.indices((side, side))
  hills = functools.partial(two_hills, rows, columns, side, largest=side)
  windows = jax.vmap(jax.vmap(lambda turn: hills(transpose=turn)))(turns)  # [down, across, H, W]
  blocks = windows[..., None] * signs[:, :, None, None, :]
  field = blocks.transpose(0, 2, 1, 3, 4).reshape(counts[0] * side, counts[1] * side, channels)
  delta = jnp.zeros_like(image)
  delta = delta.at[margin : margin + field.shape[0], margin : margin + field.shape[1]].set(field)
  return image + epsilon * _unit(delta)


def propose_l2(key: PRNGKey, image: Image, clean: Image, side: Index, epsilon: Epsilon) -> Image:
  """Moves the norm of a second random window into the first one, which gets a new pattern.

  Paper: Alg. 3. The result lies on the sphere of radius `epsilon`, before clipping to [0, 1].
  """
  height, width, channels = image.shape
  key_first, key_second, key_sign, key_turn = jax.random.split(key, 4)
  windows = [random_window(k, side, height=height, width=width) for k in (key_first, key_second)]
  here, there = (window.inside.astype(image.dtype)[..., None] for window in windows)
  delta, turn = image - clean, jax.random.bernoulli(key_turn)
  _, rows, columns = windows[0]
  pattern = two_hills(rows, columns, side, transpose=turn, largest=max(height, width))[..., None]
  pattern = pattern * jax.random.rademacher(key_sign, (1, 1, channels), image.dtype)
  old = delta * here
  pattern = pattern + old / (_TINY + jnp.sqrt(jnp.sum(old**2, axis=(0, 1), keepdims=True)))
  unused = jnp.maximum(epsilon**2 - jnp.sum(delta**2), 0.0) / channels
  moved = jnp.sum((delta * jnp.maximum(here, there)) ** 2, axis=(0, 1), keepdims=True)
  size = jnp.sqrt(jnp.sum(pattern**2, axis=(0, 1), keepdims=True))
  delta = delta * (1 - there) * (1 - here) + pattern / (_TINY + size) * jnp.sqrt(unused + moved)
  return clean + epsilon * _unit(delta)


MOVES = {"linf": Moves(stripes, propose), "l2": Moves(tiles, propose_l2)}


def stage(
  logits_fn: Callable,
  *,
  norm: str,
  num_queries: int,
  image_shape: tuple[int, ...],
  initial_share: float = 0.8,
) -> _stage.Stage:
  """Returns the Square attack as a `Stage`.

  `num_queries` counts the start; the first window has the share `initial_share` in (0, 1] of the
  pixels of an image of `image_shape`, (H, W, C).
  """
  _balls.check_norm(norm)
  if num_queries < 2 or not 0 < initial_share <= 1:
    raise ValueError(
      f"attacks.square: expected num_queries >= 2 and 0 < initial_share <= 1, "
      f"got {num_queries}, {initial_share}."
    )
  predict = _predictors.keyed(logits_fn)
  moves = MOVES[norm]

  def judge(keys: PRNGKeys, x: Images, labels: Labels) -> tuple[PerExample, Array]:
    logits = predict(keys, x)
    return -_balls.margin(logits, labels), _balls.fooled(logits, labels)

  def start(
    keys: PRNGKeys, images: Images, labels: Labels, epsilon: Epsilon, variant: _stage.Variant
  ) -> State:
    keys = _predictors.step_keys(keys, variant.restart)
    first = jax.vmap(lambda key, image: moves.start(key, image, epsilon))(
      _predictors.step_keys(keys, 0), images
    )
    x = _balls.project(first, images, epsilon=epsilon, norm=norm)
    loss, fooled = judge(keys, x, labels)
    return State(keys, images, labels, x, loss, fooled)

  def step(state: State, query: Query, epsilon: Epsilon) -> State:
    keys = _predictors.step_keys(state.keys, query.index + 1)
    tried = jax.vmap(lambda key, x, clean: moves.propose(key, x, clean, query.side, epsilon))(
      keys, state.images, state.clean
    )
    tried = _balls.project(tried, state.clean, epsilon=epsilon, norm=norm)
    loss, fooled = judge(keys, tried, state.labels)
    accept = ((loss < state.loss) | fooled) & ~state.fooled
    return state._replace(
      images=jnp.where(_balls.per_image(accept), tried, state.images),
      loss=jnp.where(accept, loss, state.loss),
      fooled=state.fooled | fooled,
    )

  height, width, _ = image_shape
  queries = schedule(num_queries - 1, height=height, width=width, norm=norm, initial=initial_share)
  return _stage.Stage(
    start, step, lambda state: state.fooled, lambda state: state.images, queries, has_gradient=False
  )


@checks.inputs(values="always")
def square(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  norm: str = "linf",
  num_queries: int = 5000,
  restarts: int = 1,
  initial_share: float = 0.8,
) -> Images:
  """Runs the Square attack on the margin loss.

  Paper: Andriushchenko et al. 2020, arXiv:1912.00049.

  ```python
  adversarial = attacks.square(key, logits_fn, images, labels, epsilon=8 / 255, num_queries=100)
  ```

  Besides the arguments of `pgd`:
    logits_fn: as in `pgd`; only its outputs are used.
    num_queries: evaluations of the network per example and restart, the start included.
    restarts: independent runs.
    initial_share: share of the pixels in the first window.

  Returns:
    An adversarial image where one was found, else the image of smallest margin.
  """
  each, _ = _stage.prepare(key, logits_fn, images, labels, epsilon=epsilon, caller="square")
  one = stage(
    logits_fn,
    norm=norm,
    num_queries=num_queries,
    image_shape=images.shape[1:],
    initial_share=initial_share,
  )
  options = {"epsilon": epsilon, "restarts": restarts, "num_targets": 1}
  return _stage.run(one, each, images, labels, **options)
