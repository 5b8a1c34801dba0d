# SPDX-License-Identifier: Apache-2.0
"""The frame of every defense here: predict on many random versions of an image and average.

A draw depends on the example's key and its number alone. Rows (draw, example) are evaluated in
compiled chunks, so memory does not grow with the number of draws.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Int

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, LogitsFn, PRNGKeys, Probabilities

ViewFn = Callable[[Array, Array], Array]
"""`(keys[R], example[R]) -> images[R, H, W, C]`: one random version of each example asked for."""


@checks.inputs()
def draw_probabilities(
  key: AnyKey,
  logits_fn: LogitsFn,
  view_fn: ViewFn,
  *,
  num_examples: int,
  num_draws: int,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Float[Array, "D N K"]:
  """Returns the softmax output of every draw.

  Args:
    key: one key, or one per example.
    logits_fn: the model.
    view_fn: makes the random versions.
    num_examples: N.
    num_draws: D, versions per example, >= 1.
    max_rows: versions per call of the model; see `loops.map_rows`.
    has_gradient: whether the caller differentiates the result (an adaptive attack).

  Raises:
    ValueError: if `num_draws` is not positive.
  """
  if num_draws < 1:
    raise ValueError(f"defenses: num_draws must be >= 1, got {num_draws}.")
  each = keys_lib.per_example(key, num_examples)

  def evaluate(rows: Int[Array, " R"]) -> Float[Array, "R K"]:
    example = rows % num_examples
    draws = jax.vmap(jax.random.fold_in)(each[example], rows // num_examples)
    return jax.nn.softmax(logits_fn(view_fn(draws, example)))

  outputs = loops.map_rows(
    evaluate, num_draws * num_examples, max_rows=max_rows, has_gradient=has_gradient
  )
  return outputs.reshape(num_draws, num_examples, -1)


@checks.inputs()
def average_over(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  transform_fn: Callable[[PRNGKeys, Images], Images],
  *,
  num_draws: int,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages the softmax output over random transformations of each image.

  Args:
    key: one key, or one per example.
    logits_fn: the model.
    images: in [0, 1].
    transform_fn: `(keys[R], images[R]) -> images[R]`, an image's result depending on its key only.
    num_draws: transformations per image.
    max_rows: images per call of the model; see `loops.map_rows`.
    has_gradient: whether the caller differentiates the result.
  """
  return draw_probabilities(
    key,
    logits_fn,
    lambda keys, example: transform_fn(keys, images[example]),
    num_examples=images.shape[0],
    num_draws=num_draws,
    max_rows=max_rows,
    has_gradient=has_gradient,
  ).mean(axis=0)
