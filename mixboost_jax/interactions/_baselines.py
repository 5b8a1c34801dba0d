# SPDX-License-Identifier: Apache-2.0
"""Learned baseline values: what an absent feature should read so that it carries no signal.

Symbols (Ren et al. 2021, arXiv:2105.10719, Sec. 3): b -> `baseline`, phi^(m)(i) -> the mean over
contexts of `marginals`, Delta v_i(S) -> `marginals`, lambda -> `low_fraction`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, loops
from mixboost_jax.array_types import PRNGKey

FeatureFn = Callable[[Array], Array]
"""`features[..., D] -> values[...]`."""

CLAMP = 1e-16
MAX_UNROLLED = 32
"""Most features that are exchanged one by one in the program; more are exchanged in one batch."""


def clamped_log_odds(probabilities: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """Returns log p / (1 - p), p clamped to [1e-16, 1 - 1e-16] (wider in float32)."""
  margin = max(CLAMP, float(jnp.finfo(probabilities.dtype).eps))
  p = jnp.clip(probabilities, margin, 1 - margin)
  return jnp.log(p) - jnp.log1p(-p)


def low_order_contexts(
  key: PRNGKey,
  *,
  num_players: int,
  low_fraction: float,
  num_contexts: int,
  num_features: int | None = None,
) -> Bool[Array, "m T D"]:
  """Draws contexts of orders 0 .. floor(low_fraction n) - 1; each player with probability m / n.

  Deviation: the slides want exactly m players; the public code draws each independently, so the
  contexts of some of the players (`num_features`) need not know of the others.
  """
  orders = jnp.arange(max(1, int(low_fraction * num_players)))
  shape = (num_players if num_features is None else num_features, orders.shape[0], num_contexts)
  noise = jax.random.uniform(key, shape)
  return jnp.moveaxis(noise < (orders / num_players)[None, :, None], 0, -1)


def marginals(
  function: FeatureFn,
  features: Float[Array, " D"],
  baseline: Float[Array, " D"],
  contexts: Bool[Array, "m T D"],
) -> Float[Array, "D m T"]:
  """Returns Delta v_i(S) = v(S + i) - v(S without i) of every player and context.

  One of the two is v(S), so D + 1 values are computed, not 2 D. A function of few features with a
  method `of_columns(list of D arrays)` is asked that way: the compiler then drops what an exchange
  of one feature leaves unchanged.
  """
  size = features.shape[0]
  if size > MAX_UNROLLED:

    def masked(present: Array) -> Array:
      x, b = (jnp.broadcast_to(value, present.shape) for value in (features, baseline))
      return function(jnp.where(present, x, b))

    own = contexts[..., None, :]
    values, exchanged = masked(own), masked(own ^ jnp.eye(size, dtype=bool)[None, None])
    return jnp.moveaxis(jnp.where(contexts, values - exchanged, exchanged - values), -1, 0)
  value_of = getattr(function, "of_columns", lambda columns: function(jnp.stack(columns, -1)))
  here = [jnp.where(contexts[..., i], features[i], baseline[i]) for i in range(size)]
  value, gains = value_of(here), []
  for i in range(size):
    other = jnp.where(contexts[..., i], baseline[i], features[i])
    exchanged = value_of([*here[:i], other, *here[i + 1 :]])
    gains.append(jnp.where(contexts[..., i], value - exchanged, exchanged - value))
  return jnp.stack(gains)


@checks.inputs()
def baseline_loss(
  key: PRNGKey,
  function: FeatureFn,
  inputs: Float[Array, "N D"],
  baseline: Float[Array, " D"],
  *,
  loss: Literal["shapley", "marginal"] = "shapley",
  low_fraction: float = 0.5,
  num_contexts: int = 100,
  num_players: int | None = None,
) -> Float[Array, ""]:
  """Returns L_Shapley = E_x sum_{low m} sum_i |phi^(m)(i)|, or L_marginal with E_S |Delta v_i(S)|.

  Paper: Ren et al. 2021, arXiv:2105.10719, eq. 7 and 8. Low-order Shapley values contain low-order
  patterns only, so a small loss leaves the patterns that are rarely active.

  ```python
  product = lambda x: x[..., 0] * x[..., 1]
  loss = interactions.baseline_loss(key, product, jnp.ones((8, 2)), jnp.zeros(2))
  assert loss == 0  # from a baseline of 0, no factor has an effect alone
  ```

  Args:
    key: draws the contexts, shared by all inputs.
    function: `features[..., D] -> values[...]`; for a classifier, `clamped_log_odds` of p.
    inputs: samples to explain.
    baseline: values of absent features, shared by all samples.
    loss: which of the two.
    low_fraction: orders below this fraction of D are low.
    num_contexts: contexts per order.
    num_players: if `function` is one summand of a larger function and shares no features with the
      others: the number of features of the whole, which sets the orders. The loss of the whole is
      the sum of the losses of its summands.
  """
  num_features = inputs.shape[1]
  contexts = low_order_contexts(
    key,
    num_players=num_players or num_features,
    low_fraction=low_fraction,
    num_contexts=num_contexts,
    num_features=num_features,
  )
  gains = jax.vmap(lambda x: marginals(function, x, baseline, contexts), out_axes=-1)(inputs)
  per_order = jnp.abs(gains.mean(2)) if loss == "shapley" else jnp.abs(gains).mean(2)
  return per_order.sum((0, 1)).mean()


class LearnedBaseline(NamedTuple):
  """Baseline and the loss before each step."""

  baseline: Float[Array, " D"]
  losses: Float[Array, " steps"]


@checks.inputs()
def learn_baseline(
  key: PRNGKey,
  function: FeatureFn,
  inputs: Float[Array, "N D"],
  initial: Float[Array, " D"],
  *,
  low: Float[Array, " D"],
  high: Float[Array, " D"],
  learning_rate: float = 0.01,
  num_steps: int = 300,
  **options: Any,
) -> LearnedBaseline:
  """Gradient descent on `baseline_loss` with fresh contexts, clamped to [low, high].

  Paper: Ren et al. 2021, arXiv:2105.10719, Sec. 4 (lr 0.01, 300 steps; clamped to the training mean
  plus or minus 0.3 standard deviations for images, to [0, 1] for the synthetic functions).

  The first baseline is `initial`; `options` are keywords of `baseline_loss`.

  ```python
  product, start = lambda x: x[..., 0] * x[..., 1], jnp.full(2, 0.4)
  ends = {"low": jnp.zeros(2), "high": jnp.ones(2)}
  found = interactions.learn_baseline(key, product, jnp.ones((8, 2)), start, **ends)
  assert found.baseline.tolist() == [0, 0]  # from there, no factor has an effect alone
  ```
  """

  def objective(baseline: Array, step_key: PRNGKey) -> Array:
    return baseline_loss(step_key, function, inputs, baseline, **options)

  def step(baseline: Array, number: Array) -> tuple[Array, Array]:
    value, slope = jax.value_and_grad(objective)(baseline, jax.random.fold_in(key, number))
    return jnp.clip(baseline - learning_rate * slope, low, high), value

  baseline, losses = loops.scan(step, jnp.clip(initial, low, high), jnp.arange(num_steps))
  return LearnedBaseline(baseline, losses)
