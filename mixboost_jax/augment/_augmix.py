# SPDX-License-Identifier: Apache-2.0
"""AugMix: a convex mix of chains of operations with the picture itself.

Paper: Hendrycks et al. 2020, arXiv:1912.02781, Algorithm 1. Symbols: k -> width, w -> weights,
m -> share, alpha -> alpha. PixMix has the same operations, at the same magnitudes.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PerExample, PRNGKeys
from mixboost_jax.augment import _options, _steps
from mixboost_jax.augment._entry import Account, Entry, Scene, short
from mixboost_jax.augment._options import Number
from mixboost_jax.augment._steps import ENHANCERS, SHEARS, Op, Steps, index
from mixboost_jax.image.levels import from_levels, rounded, to_levels

BASE_OPS = (
  Op.AUTOCONTRAST, Op.EQUALIZE, Op.POSTERIZE, Op.ROTATE, Op.SOLARIZE,
  Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y,
)  # fmt: skip
ALL_OPS = (*BASE_OPS, Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS)
"""With the four that overlap with the corruptions of the test sets."""
INTERPOLATION = "bilinear"


def ops_used(*, all_ops: bool) -> tuple[Op, ...]:
  """Returns what may be applied, the identity included (it stands for "no step")."""
  return (Op.IDENTITY, *sorted(ALL_OPS if all_ops else BASE_OPS))


def steps_at(
  u: Float[Array, "*n 3"], *, severity: Number, all_ops: bool, shape: tuple[int, ...]
) -> Steps:
  """Turns three uniform numbers into a step: operation, level in [0.1, severity), sign.

  Magnitudes at level l: posterize 4 - int(0.4 l) bits, rotate +-int(3 l) degrees, solarize from
  256 - int(25.6 l), shear +-0.03 l, translate +-int(side l / 30) pixels, enhancers 0.18 l + 0.1.
  """
  choices = ALL_OPS if all_ops else BASE_OPS
  op = jnp.asarray(np.asarray(choices, np.int32))[index(u[..., 0], len(choices))]
  level = 0.1 + rounded((severity - 0.1) * u[..., 1])
  sign = jnp.where(u[..., 2] < 0.5, -1.0, 1.0)
  height, width = shape
  values = {
    **dict.fromkeys(SHEARS, sign * level * 0.3 / 10),
    Op.TRANSLATE_X: sign * jnp.floor(level * (width / 3) / 10),
    Op.TRANSLATE_Y: sign * jnp.floor(level * (height / 3) / 10),
    Op.ROTATE: sign * jnp.floor(level * 30 / 10),
    **dict.fromkeys(ENHANCERS, rounded(level * 0.18) + 0.1),
    Op.POSTERIZE: 4 - jnp.floor(level * 4 / 10),
    Op.SOLARIZE: 256 - jnp.floor(level * 256 / 10),
  }
  magnitude = jnp.zeros_like(level)
  for which, value in values.items():
    magnitude = jnp.where(op == which, value, magnitude)
  how = {"shape": shape, "max_degrees": int(3 * severity), "interpolation": INTERPOLATION}
  return _steps.traced_steps(op, magnitude, **how)


MAX_DEPTH = 3  # if the depth is drawn
_RULES = {"alpha": _options.number(0, open_low=True)}


class Chains(NamedTuple):
  """What AugMix does to each of N pictures: W chains of up to D steps."""

  steps: Steps  # [N, W, D]
  depth: Int[Array, "N W"]
  weights: Float[Array, "N W"]
  share: PerExample


_DRAWN = ("severity", "width", "depth", "alpha", "all_ops")
"""Keywords that decide what is drawn."""


@functools.partial(jax.jit, static_argnames=(*_DRAWN, "shape"))
def draw_chains(
  each: PRNGKeys,
  *,
  severity: Number,
  width: int,
  depth: int,
  alpha: Number,
  all_ops: bool,
  shape: tuple[int, ...],
) -> Chains:
  """Draws chains, depths, Dirichlet weights and Beta shares, each from the example's own key."""
  longest = depth if depth > 0 else MAX_DEPTH
  key_weights, key_share, key_steps = keys.split_each(each, 3)
  u = jax.vmap(lambda k: jax.random.uniform(k, (width, 1 + 3 * longest)))(key_steps)
  depths = index(u[..., 0], MAX_DEPTH) + 1 if depth < 1 else jnp.full(u.shape[:2], depth)
  u_steps = u[..., 1:].reshape(len(each), width, longest, 3)
  steps = steps_at(u_steps, severity=severity, all_ops=all_ops, shape=shape)
  # Dirichlet(1, ..., 1) and Beta(1, 1) without the rejection loops of the general case.
  if alpha == 1:
    weights = jax.vmap(lambda k: jax.random.exponential(k, (width,)))(key_weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    share = jax.vmap(jax.random.uniform)(key_share)
  else:
    alphas = jnp.full(width, float(alpha))
    weights = jax.vmap(lambda k: jax.random.dirichlet(k, alphas))(key_weights)
    share = jax.vmap(lambda k: jax.random.beta(k, alpha, alpha))(key_share)
  return Chains(steps, depths, weights, share)


def mix_chains(
  images: Images, chains: Chains, *, ops: tuple[Op, ...], fill: UInt8[Array, " C"], serial: bool
) -> Images:
  """Applies drawn chains: (1 - share) x + share sum_i weights_i chain_i(x)."""
  options: dict[str, Any] = {"ops": ops, "interpolation": INTERPOLATION, "fill": fill}
  total = (_serial if serial else _merged)(to_levels(images), chains, options)
  share = chains.share[:, None, None, None]
  # The weights sum to one up to rounding.
  return jnp.clip(rounded((1 - share) * images) + rounded(share * total), 0, 1)


def _serial(levels: UInt8[Array, "N H W C"], chains: Chains, options: dict[str, Any]) -> Images:
  def one(pair: tuple[Array, Chains]) -> Array:
    picture, own = pair

    def add_chain(i: Array, total: Array) -> Array:
      steps = jax.tree.map(lambda leaf: leaf[i], own.steps)
      end = _steps.in_turn(picture, steps, own.depth[i], **options)
      return total + rounded(own.weights[i] * from_levels(end))

    return jax.lax.fori_loop(0, own.depth.shape[0], add_chain, jnp.zeros(picture.shape))

  return jax.lax.map(one, (levels, chains))


def _merged(levels: UInt8[Array, "N H W C"], chains: Chains, options: dict[str, Any]) -> Images:
  number, num_chains, longest = chains.steps.op.shape
  unused = jnp.arange(longest)[None, None] >= chains.depth[..., None]
  steps = chains.steps._replace(op=jnp.where(unused, int(Op.IDENTITY), chains.steps.op))
  flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), steps)
  ends = _steps.apply_merged(jnp.repeat(levels, num_chains, axis=0), flat, **options)
  ends = ends.reshape(number, num_chains, *levels.shape[1:])
  total = jnp.zeros(levels.shape)
  for i in range(num_chains):
    weight = chains.weights[:, i, None, None, None]
    total = total + rounded(weight * from_levels(ends[:, i]))
  return total


@checks.inputs()
def augmix(
  key: AnyKey,
  images: Images,
  *,
  severity: Number = 3,
  width: int = 3,
  depth: int = -1,
  alpha: Number = 1.0,
  all_ops: bool = False,
  fill: Number | tuple[float, ...] = 0.0,
  formulation: str = "auto",
) -> Images:
  """Mixes each picture with `width` randomly processed versions of itself.

  Deviation: rotation and shear sample bilinearly within one level of the reference on under 2 % of
    the pixels (fixed-point coordinates).

  ```python
  images = augment.augmix(key, images, severity=3)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1]; the chains work on 8-bit levels.
    severity: highest level of an operation, in [0.1, 10]; 3 on CIFAR, 1 on ImageNet.
    width: number of chains.
    depth: operations per chain; -1 or 0 draws 1, 2 or 3.
    alpha: of the Dirichlet weights and the Beta share, > 0.
    all_ops: whether color, contrast, brightness and sharpness take part.
    fill: pixel value, or one per channel, of what a warp brings in from outside.
    formulation: "auto", "serial" or "merged"; changes the speed only.
  """
  drawn: dict[str, Any] = {"severity": severity, "width": width, "depth": depth, "alpha": alpha}
  drawn["all_ops"] = all_ops
  _options.check("augmix", _RULES, **drawn, fill=fill, formulation=formulation)
  each, fills = keys.per_example(key, len(images)), jnp.asarray(fill, jnp.float32)
  return _augmix(each, images, fills, serial=_steps.is_serial(formulation), **drawn)


@functools.partial(jax.jit, static_argnames=(*_DRAWN, "serial"))
def _augmix(
  each: PRNGKeys, images: Images, fill: Float[Array, "*c"], *, serial: bool, **drawn: Any
) -> Images:
  chains = draw_chains(each, shape=images.shape[1:3], **drawn)
  value = to_levels(jnp.broadcast_to(fill, images.shape[-1:]))
  ops = ops_used(all_ops=drawn["all_ops"])
  return mix_chains(images, chains, ops=ops, fill=value, serial=serial)


@checks.inputs()
def augmix_views(
  key: AnyKey, images: Images, *, num_views: int = 2, **options: Any
) -> tuple[Images, ...]:
  """Returns `num_views` independent AugMix versions of each picture, for the JSD objective.

  Paper: Hendrycks et al. 2020, Sec. 3: the consistency loss compares the clean picture with two.
  All versions are made by one call of `augmix`, whose keywords are `options`.

  ```python
  views = augment.augmix_views(key, images)
  loss = losses.jensen_shannon([logits_fn(x) for x in (images, *views)]).mean()
  ```
  """
  each = keys.split_each(keys.per_example(key, len(images)), num_views)
  views = augmix(jnp.concatenate(each), jnp.concatenate([images] * num_views), **options)
  return tuple(jnp.split(views, num_views))


def _describe(scene: Scene, **options: Any) -> Account:
  drawn = draw_chains(scene.own, shape=scene.shape, **{name: options[name] for name in _DRAWN})
  account: Account = [{"op": "mix", "share_of_chains": short(drawn.share[0])}]
  for i in range(options["width"]):
    own = jax.tree.map(lambda leaf, i=i: leaf[0, i, : int(drawn.depth[0, i])], drawn.steps)
    weight = short(drawn.weights[0, i])
    account.append({"op": "chain", "weight": weight, "steps": _steps.describe(own)})
  return account


ENTRIES = {
  "augmix": Entry(
    augmix,
    _describe,
    rules=_RULES,
    examples=lambda side: {"augmix": {}, "augmix all ops": {"all_ops": True}},
  ),
}
