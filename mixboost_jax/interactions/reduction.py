# SPDX-License-Identifier: Apache-2.0
"""A loss that lowers the interactions between units of a layer.

Symbols (Zhang et al. 2021, arXiv:2009.11729, Sec. 4): E_{i,j} |I(i, j)| -> `interaction_loss`,
A, B -> disjoint random groups of units, Delta f(S, A, B) -> `group_differences`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, PerExample, PRNGKey

OutputsFn = Callable[[Array], Array]


def group_masks(key: PRNGKey, *, num_units: int, group_size: int) -> Bool[Array, "4 units"]:
  """Draws A, B and a context S of uniform size; returns who is present in S+AB, S+A, S+B, S.

  A uniform size followed by a uniform set of that size is the distribution of the Shapley
  interaction index, with A and B played as one player each.
  """
  order_key, size_key = jax.random.split(key)
  rank = jnp.argsort(jax.random.uniform(order_key, (num_units,)))  # a uniformly random order
  first = rank < group_size
  second = (rank >= group_size) & (rank < 2 * group_size)
  size = jax.random.randint(size_key, (), 0, num_units - 2 * group_size + 1)
  context = (rank >= 2 * group_size) & (rank < 2 * group_size + size)
  return jnp.stack([context | first | second, context | first, context | second, context])


@checks.inputs()
def group_differences(
  key: AnyKey,
  outputs_fn: OutputsFn,
  inputs: Float[Array, "N *unit"],
  *,
  fraction: float = 0.05,
  mask_shape: tuple[int, ...] | None = None,
) -> Float[Array, "N K"]:
  """Returns Delta f(S, A, B) = f(S+AB) - f(S+A) - f(S+B) + f(S) of each output, one draw each.

  Args:
    key: one key, or one key per example.
    outputs_fn: `inputs -> outputs[., K]`: the rest of the network after the layer whose units
      interact, or the whole network. It is called once on 4 N rows (S+AB of all examples, then
      S+A, ...), so it should not normalise over the batch.
    inputs: activations (or pixels); an absent unit is 0.
    fraction: size of A and of B as a fraction of the units, rounded up.
    mask_shape: shape of the units, broadcast over `inputs.shape[1:]`: `(1, 1, C)` makes channels
      the units, None every entry.

  Raises:
    ValueError: if two groups do not fit.
  """
  shape = inputs.shape[1:] if mask_shape is None else mask_shape
  num_units = math.prod(shape)
  group_size = max(1, math.ceil(fraction * num_units - 1e-9))
  if not 0 < fraction <= 0.5 or 2 * group_size > num_units:
    raise ValueError(
      f"group_differences: two groups of {group_size} units (fraction={fraction}) do not fit into "
      f"{num_units} units; use a fraction in (0, 0.5]."
    )
  num = inputs.shape[0]
  masks = jax.vmap(lambda k: group_masks(k, num_units=num_units, group_size=group_size))(
    keys.per_example(key, num)
  )
  present = jnp.swapaxes(masks, 0, 1).reshape(4, num, *shape)
  full = jnp.broadcast_to(present, (4, *inputs.shape))
  masked = jnp.where(full, inputs[None], jnp.zeros((), inputs.dtype))
  outputs = outputs_fn(masked.reshape(4 * num, *inputs.shape[1:]))
  both, first, second, neither = outputs.reshape(4, num, -1)
  return both - first - second + neither


@checks.inputs()
def interaction_loss(
  key: AnyKey,
  outputs_fn: OutputsFn,
  inputs: Float[Array, "N *unit"],
  *,
  fraction: float = 0.05,
  num_draws: int = 1,
  mask_shape: tuple[int, ...] | None = None,
) -> PerExample:
  """Returns the mean of |Delta f(S, A, B)| over outputs and draws, one value per example.

  Paper: Zhang et al. 2021, arXiv:2009.11729, eq. 9: added to the loss with a coefficient of 50 to
  1000 for AlexNet and VGG, 0.001 to 0.03 for ResNets.
  Deviation: as in its training, absolute values are taken per draw, which bounds |I| from above.

  Args:
    key: one key, or one key per example.
    outputs_fn: see `group_differences`.
    inputs: see `group_differences`.
    fraction: size of A and of B as a fraction of the units.
    num_draws: draws of (A, B, S) per example; each costs 4 rows.
    mask_shape: see `group_differences`.
  """
  example_keys = keys.per_example(key, inputs.shape[0])
  total = jnp.zeros(inputs.shape[0])
  for draw in range(num_draws):
    draw_keys = jax.vmap(lambda k, d=draw: jax.random.fold_in(k, d))(example_keys)
    delta = group_differences(
      draw_keys, outputs_fn, inputs, fraction=fraction, mask_shape=mask_shape
    )
    total += jnp.abs(delta).mean(1)
  return total / num_draws
