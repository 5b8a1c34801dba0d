# SPDX-License-Identifier: Apache-2.0
"""Losses on logits, one value per example; the caller takes the mean."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Labels, Logits, PerExample, PRNGKey, SoftLabels

__all__ = [
  "INTERACTION_PRESETS",
  "aligned_difference",
  "boost_entropy",
  "cross_entropy",
  "entropy",
  "interaction",
  "jensen_shannon",
  "kl_divergence",
  "mixboost",
  "one_hot",
  "smooth",
]


def __dir__() -> list[str]:
  return __all__


# Cross-entropy with integer or soft labels, and the entropy of a prediction.


@checks.inputs()
def one_hot(labels: Labels, num_classes: int) -> SoftLabels:
  """Returns `float32[N, K]` rows with a single 1; all 0 for a traced label that is no class.

  ```python
  soft_labels = losses.one_hot(labels, 4)
  assert (soft_labels.argmax(axis=1) == labels).all()
  ```
  """
  checks.class_numbers("one_hot", "labels", labels, num_classes)
  return jax.nn.one_hot(labels, num_classes)


@checks.inputs()
def smooth(soft_labels: SoftLabels, *, label_smoothing: float) -> SoftLabels:
  """Mixes each row with the uniform distribution.

  Paper: Szegedy et al. 2016, arXiv:1512.00567, Sec. 7.

  ```python
  targets = losses.smooth(soft_labels, label_smoothing=0.1)
  assert jnp.allclose(targets.max(axis=1), 0.9 + 0.1 / 4)
  ```
  """
  if not 0 <= label_smoothing < 1:
    raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
  return (1 - label_smoothing) * soft_labels + label_smoothing / soft_labels.shape[-1]


@checks.inputs()
def cross_entropy(
  logits: Logits, labels: Labels | SoftLabels, *, label_smoothing: float = 0.0
) -> PerExample:
  """Returns `-sum_k y_k log softmax(logits)_k` for each example, in nats.

  A class of probability 0 adds nothing, whatever its logit (-inf included). The value is NaN where
  a label is no class, so that a wrong label under `jit` is not taken for a perfect prediction.

  ```python
  loss = losses.cross_entropy(logits, labels, label_smoothing=0.1).mean()
  ```

  Args:
    logits: `[N, K]`.
    labels: class numbers `int[N]` in [0, K), or probabilities `float[N, K]`.
    label_smoothing: weight of the uniform distribution, in [0, 1).
  """
  known = None
  if labels.ndim == 1:
    known = (labels >= 0) & (labels < logits.shape[-1])
    labels = one_hot(labels, logits.shape[-1])
  if label_smoothing:
    labels = smooth(labels, label_smoothing=label_smoothing)
  log_probabilities = jnp.where(labels == 0, 0, jax.nn.log_softmax(logits))
  loss = -jnp.sum(labels * log_probabilities, axis=-1)
  return loss if known is None else jnp.where(known, loss, jnp.nan)


@checks.inputs()
def entropy(logits: Logits) -> PerExample:
  """Returns the Shannon entropy of `softmax(logits)` in nats, in [0, log K].

  ```python
  assert jnp.allclose(losses.entropy(jnp.zeros((1, 4))), jnp.log(4))
  ```
  """
  log_probabilities = jax.nn.log_softmax(logits)
  finite = jnp.where(log_probabilities == -jnp.inf, 0, log_probabilities)  # p log p is 0 at p = 0
  return -jnp.sum(jnp.exp(log_probabilities) * finite, axis=-1)


# The MixBoost objective.
#
# Symbols (Liu et al., MixBoost, eq. 3-4): y-hat -> `logits`, y-hat_mask -> `masked_logits`,
# lambda -> `weight`, P -> softmax over classes. The entropy is *maximised*: what the masked-out
# cells add to the output (the high-order part) should not tell the classes apart.


@checks.inputs()
def boost_entropy(
  logits: Logits,
  masked_logits: Logits,
  *,
  align: float = 1.0,
  difference: str = "logits",
  stop_gradient_clean: bool = False,
) -> PerExample:
  """Returns L_boost, the entropy of `softmax(logits - align * masked_logits)`.

  Paper: Liu et al., MixBoost, eq. 4 (the sum over classes is implicit there).
  Deviation: none with the defaults. `align = 1 / keep_rate` is the aligned difference of Deng et
  al. 2022, arXiv:2111.06236, whose first-order terms cancel; `difference="probabilities"` is the
  other reading of eq. 4.

  ```python
  mask = masks.sample_patch_mask(key, grid=8, keep_rate=0.7)
  gain = losses.boost_entropy(logits, logits_fn(masks.apply(images, mask)))
  assert jnp.allclose(losses.boost_entropy(logits, logits), jnp.log(4))
  ```

  Args:
    logits: output on the whole image.
    masked_logits: output on the masked image.
    align: factor of `masked_logits`.
    difference: subtract "logits", or softmax "probabilities".
    stop_gradient_clean: no gradient through `logits`.

  Returns:
    Entropy in nats, in [0, log K]; log K where the two outputs are equal and `align` is 1.
  """
  logits = jax.lax.stop_gradient(logits) if stop_gradient_clean else logits
  if difference == "logits":
    return entropy(logits - align * masked_logits)
  if difference == "probabilities":
    return entropy(jax.nn.softmax(logits) - align * jax.nn.softmax(masked_logits))
  raise ValueError(f"difference must be 'logits' or 'probabilities', got {difference!r}.")


@checks.inputs()
def mixboost(
  logits: Logits,
  masked_logits: Logits,
  labels: Labels | SoftLabels,
  *,
  weight: float = 1.0,
  align: float = 1.0,
  difference: str = "logits",
  label_smoothing: float = 0.0,
  stop_gradient_clean: bool = False,
) -> PerExample:
  """Returns `CE(y, logits) - weight * boost_entropy(logits, masked_logits)`.

  Paper: Liu et al., MixBoost, eq. 3, with lambda = `weight` >= 0.

  The whole image may be augmented, its masked view then is too; an augmentation that mixes labels
  gives soft ones. `label_smoothing` is of the cross-entropy, the rest as in `boost_entropy`.

  ```python
  mask = masks.sample_patch_mask(key, grid=8, keep_rate=0.7)
  masked_logits = logits_fn(masks.apply(images, mask))
  loss = losses.mixboost(logits, masked_logits, labels, weight=1.0).mean()
  ```
  """
  options: Any = {"difference": difference, "stop_gradient_clean": stop_gradient_clean}
  boost = boost_entropy(logits, masked_logits, align=align, **options)
  return cross_entropy(logits, labels, label_smoothing=label_smoothing) - weight * boost


# Agreement between predictions on several views of one example.


@checks.inputs()
def jensen_shannon(list_of_logits: Sequence[Logits]) -> PerExample:
  """Returns the Jensen-Shannon divergence of the views' predictions, in [0, log(num_views)].

  Paper: Hendrycks et al. 2020 (AugMix), arXiv:1912.02781, Sec. 3, "Jensen-Shannon divergence
  consistency loss": the mean of KL(p_i || M), M the mean prediction clipped to [1e-7, 1].

  ```python
  noisy = augment.gaussian_noise(key, images, sigma=0.1)
  loss = losses.jensen_shannon([logits, logits_fn(noisy)]).mean()
  ```
  """
  if len(list_of_logits) < 2:
    raise ValueError(f"jensen_shannon: expected at least 2 views, got {len(list_of_logits)}.")
  log_p = jnp.stack([jax.nn.log_softmax(logits) for logits in list_of_logits])
  p = jnp.exp(log_p)
  log_mixture = jnp.log(jnp.clip(p.mean(axis=0, keepdims=True), 1e-7, 1.0))
  return jnp.sum(p * jnp.where(log_p == -jnp.inf, 0, log_p - log_mixture), axis=-1).mean(axis=0)


@checks.inputs()
def kl_divergence(logits: Logits, other: Logits) -> PerExample:
  """Returns KL(p || q) of `p = softmax(logits)` from `q = softmax(other)`, in nats.

  ```python
  noisy = augment.gaussian_noise(key, images, sigma=0.1)
  shift = losses.kl_divergence(logits, logits_fn(noisy)).mean()
  ```
  """
  log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other)
  return jnp.sum(jnp.exp(log_p) * jnp.where(log_p == -jnp.inf, 0, log_p - log_q), axis=-1)


# Losses that encourage or penalise interactions of a range of orders.
#
# Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 4): v(S) -> the logits on the input that keeps
# the cells S; S1 within S2 with |S1| = r1 n, |S2| = r2 n -> `logits_small`, `logits_large`;
# Delta v -> `aligned_difference`; L+ -> mode "encourage", L- -> mode "penalize".

INTERACTION_PRESETS: dict[str, tuple[str, float, float]] = {
  "high": ("penalize", 0.0, 0.5),
  "mid": ("encourage", 0.3, 0.7),
  "low": ("penalize", 0.7, 1.0),
}
"""Networks of Deng et al. that come to encode mainly high, middle or low orders: (mode, r1, r2)."""


@checks.inputs()
def aligned_difference(
  logits_large: Logits, logits_small: Logits, *, r1: float, r2: float
) -> Logits:
  """Returns `v(S2) - (r2 / r1) v(S1)`; the factor is 1 if `r1` is 0.

  With this factor the first-order terms cancel in expectation, so only interactions remain.

  ```python
  rest = losses.aligned_difference(logits, 0.3 * logits, r1=0.3, r2=1.0)
  assert jnp.allclose(rest, 0, atol=1e-4)  # proportional to the kept cells: no interaction
  ```
  """
  if not 0 <= r1 < r2 <= 1:
    raise ValueError(f"interaction: expected 0 <= r1 < r2 <= 1, got r1={r1}, r2={r2}.")
  return logits_large - (r2 / r1 if r1 else 1.0) * logits_small


@checks.inputs()
def interaction(
  logits_large: Logits,
  logits_small: Logits,
  labels: Labels | SoftLabels,
  *,
  r1: float,
  r2: float,
  mode: str = "penalize",
) -> PerExample:
  """Returns L+(r1, r2) (encourage) or L-(r1, r2) (penalize) for each example.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 4. L+ is the cross-entropy of the aligned
  difference with the label; L- is minus its entropy, so minimising it raises the entropy.

  ```python
  smaller, larger = masks.nested_patch_masks(key, grid=8, r1=0.3, r2=0.7)
  small, large = (logits_fn(masks.apply(images, mask)) for mask in (smaller, larger))
  loss = losses.interaction(large, small, labels, r1=0.3, r2=0.7).mean()
  ```

  Args:
    logits_large: output on the input that keeps the fraction `r2` of the cells.
    logits_small: output on the nested input that keeps `r1`.
    labels: used by "encourage" only.
    r1: smaller keep rate.
    r2: larger keep rate, `0 <= r1 < r2 <= 1`.
    mode: "encourage" or "penalize".
  """
  delta = aligned_difference(logits_large, logits_small, r1=r1, r2=r2)
  if mode == "encourage":
    return cross_entropy(delta, labels)
  if mode == "penalize":
    return -entropy(delta)
  raise ValueError(f"interaction: mode must be 'encourage' or 'penalize', got {mode!r}.")


# A loss that lowers the interactions between units of a layer.
#
# Symbols (Zhang et al. 2021, arXiv:2009.11729, Sec. 4): E_{i,j} |I(i, j)| -> `interaction_loss`,
# A, B -> disjoint random groups of units, Delta f(S, A, B) -> `group_differences`.

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

  ```python
  differences = interactions.group_differences(key, logits_fn, images, fraction=0.1)
  ```

  Args:
    key: one key, or one key per example.
    outputs_fn: `inputs -> outputs[., K]`: the rest of the network after the layer whose units
      interact, or the whole network. It is called once on 4 N rows (S+AB of all examples, then
      S+A, ...), so it should not normalise over the batch.
    inputs: activations (or pixels); an absent unit is 0.
    fraction: size of A and of B as a fraction of the units, rounded up.
    mask_shape: shape of the units, broadcast over `inputs.shape[1:]`: `(1, 1, C)` makes channels
      the units, None every entry.
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
  draw = functools.partial(group_masks, num_units=num_units, group_size=group_size)
  masks = jax.vmap(draw, out_axes=1)(keys.per_example(key, num))
  full = jnp.broadcast_to(masks.reshape(4, num, *shape), (4, *inputs.shape))
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

  Each of the `num_draws` draws of (A, B, S) costs 4 rows; the rest as in `group_differences`.

  ```python
  penalty = 0.01 * interactions.interaction_loss(key, logits_fn, images, fraction=0.1).mean()
  ```
  """
  example_keys = keys.per_example(key, inputs.shape[0])
  options: Any = {"fraction": fraction, "mask_shape": mask_shape}
  total = jnp.zeros(inputs.shape[0])
  for draw in range(num_draws):
    draw_keys = jax.vmap(lambda k, d=draw: jax.random.fold_in(k, d))(example_keys)
    delta = group_differences(draw_keys, outputs_fn, inputs, **options)
    total += jnp.abs(delta).mean(1)
  return total / num_draws
