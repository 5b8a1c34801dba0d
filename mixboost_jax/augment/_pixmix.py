# SPDX-License-Identifier: Apache-2.0
"""PixMix: mixes each picture with structurally complex ones, several times.

Paper: Hendrycks et al. 2022, arXiv:2112.05135, Sec. 3 and Fig. 4. Of the ways to combine two
pictures, add and multiply are the paper's, the others are the experimental ones of the released
code; all act on pixels in [0, 1], and the result is clipped. Symbols: a, b are their factors or
exponents. The operations on a picture are those of AugMix (`ALL_OPS` of `_augmix.py`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.augment import _options, _steps
from mixboost_jax.augment._augmix import INTERPOLATION, ops_used, steps_at
from mixboost_jax.augment._entry import Account, Entry, Scene, short
from mixboost_jax.augment._options import Number
from mixboost_jax.augment._steps import Op, Steps, index
from mixboost_jax.image.boxes import crop
from mixboost_jax.image.levels import from_levels, rounded, to_levels

Pixels = Float[Array, "*n C"]
Scalars = Float[Array, "*m"]
Mixing = Callable[[Pixels, Pixels, Scalars, Scalars, Scalars], Pixels]

_TINY = 1e-37  # smallest base of a power with a negative exponent


def replace(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns the second picture."""
  return jnp.broadcast_to(v, u.shape)


def add(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns a u + b v, on pixels in [-1, 1]."""
  return (rounded(a * (2 * u - 1)) + rounded(b * (2 * v - 1)) + 1) / 2


def multiply(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Returns u^a v^b, on pixels in [0, 2]."""
  # One exponential instead of two powers.
  exponent = rounded(a * jnp.log(jnp.maximum(2 * u, _TINY))) + rounded(
    b * jnp.log(jnp.maximum(2 * v, _TINY))
  )
  return jnp.where(u > 0, jnp.exp(exponent) / 2, 0.0)


def screen(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Multiplies the negatives."""
  return 1 - multiply(1 - u, 1 - v, a, b, coin)


def overlay(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Multiplies where the first picture is dark and screens where it is bright, or the reverse.

  Deviation: both use the same (a, b); the released code draws them twice.
  """
  dark = jnp.where(coin < 0.5, u - 0.5, 0.5 - u) < 0
  return jnp.where(dark, multiply(u, v, a, b, coin), screen(u, v, a, b, coin))


def darken_or_lighten(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Takes the darker pixels, or the brighter ones; a and b do nothing."""
  return jnp.where(coin < 0.5, jnp.minimum(u, v), jnp.maximum(u, v))


def swap_channel(u: Pixels, v: Pixels, a: Scalars, b: Scalars, coin: Scalars) -> Pixels:
  """Takes one channel of the second picture; a and b do nothing."""
  channels = u.shape[-1]
  chosen = jnp.minimum(jnp.floor(coin * channels), channels - 1)
  each = jnp.arange(channels, dtype=u.dtype).reshape(*(1,) * (u.ndim - 1), channels)
  return jnp.where(each == chosen, v, u)


MIXINGS: dict[str, Mixing] = {
  "add": add,
  "multiply": multiply,
  "screen": screen,
  "overlay": overlay,
  "darken_or_lighten": darken_or_lighten,
  "swap_channel": swap_channel,
}
"""A way of mixing is a function and a line here; operations: "Add an operation" of CONTRIBUTING."""
_RULES = {"mixings": _options.some_of(*MIXINGS)}


class Rounds(NamedTuple):
  """What PixMix does to each of N pictures in rounds 0..k; round 0 lays the first picture."""

  count: Int[Array, " N"]  # the last round that takes place
  picture: Int[Array, " N"]  # of the mixing set
  top: Int[Array, " N"]  # of its window
  left: Int[Array, " N"]
  steps: Steps  # [N, k + 1], on the original picture
  from_original: Array  # bool[N, k + 1]: mix in the processed original, else the mixing picture
  mixing: Int[Array, "N R"]  # 0: replace, then the mixings in their order
  a: Float[Array, "N R"]
  b: Float[Array, "N R"]
  coin: Float[Array, "N R"]  # for mixings that choose something themselves


_DRAWN = ("k", "beta", "severity", "all_ops")
"""Keywords that decide what is drawn."""


@functools.partial(jax.jit, static_argnames=(*_DRAWN, "num_mixings", "shape", "mixing_shape"))
def draw_rounds(
  each: PRNGKeys,
  *,
  k: int,
  beta: Number,
  severity: Number,
  all_ops: bool,
  num_mixings: int,
  shape: tuple[int, ...],
  mixing_shape: tuple[int, ...],
) -> Rounds:
  """Draws all rounds of each example from its own key.

  `shape` is (height, width) of the pictures, `mixing_shape` (number, height, width) of the set.
  """
  key_rounds, key_once = keys.split_each(each, 2)
  u = jax.vmap(lambda key: jax.random.uniform(key, (k + 1, 9)))(key_rounds)
  once = jax.vmap(lambda key: jax.random.uniform(key, (4,)))(key_once)
  steps = steps_at(u[..., :3], severity=severity, all_ops=all_ops, shape=shape)
  first = jnp.arange(k + 1)[None, :] == 0
  coin_original = u[..., 3] < 0.5
  # Round 0 lays the original, processed half of the time.
  op = jnp.where(first & ~coin_original, int(Op.IDENTITY), steps.op)
  mixing = jnp.where(first, 0, 1 + index(u[..., 4], num_mixings))
  # Beta(beta, 1) = U^(1/beta) and Beta(1, beta) = 1 - (1 - U)^(1/beta).
  high = u[..., 6] ** (1 / beta)
  low, low_too = (1 - (1 - u[..., i]) ** (1 / beta) for i in (6, 7))
  shrinks = u[..., 5] < 0.5
  number, height, width = mixing_shape
  return Rounds(
    count=index(once[:, 0], k + 1),
    picture=index(once[:, 1], number),
    top=index(once[:, 2], height - shape[0] + 1),
    left=index(once[:, 3], width - shape[1] + 1),
    steps=steps._replace(op=op),
    from_original=first | coin_original,
    mixing=mixing,
    a=jnp.where(shrinks, high, 1 + low),
    b=jnp.where(shrinks, low_too, -low_too),
    coin=u[..., 8],
  )


def mix_rounds(
  images: Images,
  mixing_levels: UInt8[Array, "M P Q C"],
  rounds: Rounds,
  *,
  ops: tuple[Op, ...],
  mixings: tuple[Mixing, ...],
  fill: UInt8[Array, " C"],
  serial: bool,
) -> Images:
  """Applies drawn rounds; only those that take place are computed in the serial formulation."""
  options: dict[str, Any] = {"ops": ops, "interpolation": INTERPOLATION, "fill": fill}
  run = _serial if serial else _merged
  return run(to_levels(images), mixing_levels, rounds, (replace, *mixings), options)


def _window(mixing_levels: Array, own: Rounds, shape: tuple[int, ...]) -> Array:
  rows = mixing_levels.reshape(len(mixing_levels), -1)  # as they lie, see `data.DevicePictures`
  picture = jax.lax.dynamic_index_in_dim(rows, own.picture, keepdims=False)
  picture = picture.reshape(mixing_levels.shape[1:])
  return crop(picture, own.top, own.left, height=shape[0], width=shape[1])


def _serial(
  levels: Array, mixing_levels: Array, rounds: Rounds, mixings: Sequence[Mixing], options: Any
) -> Images:
  branches = [lambda u, v, a, b, c, f=f: jnp.clip(f(u, v, a, b, c), 0, 1) for f in mixings]

  def one(pair: tuple[Array, Rounds]) -> Array:
    picture, own = pair
    other = _window(mixing_levels, own, picture.shape)

    def body(r: Array, mixed: Array) -> Array:
      step = jax.tree.map(lambda leaf: leaf[r], own.steps)
      levels_r = jax.lax.cond(
        own.from_original[r],
        lambda x: _steps.one_step(x, step, **options),
        lambda x: other,
        picture,
      )
      v = from_levels(levels_r)
      return jax.lax.switch(own.mixing[r], branches, mixed, v, own.a[r], own.b[r], own.coin[r])

    return jax.lax.fori_loop(0, own.count + 1, body, jnp.zeros(picture.shape))

  return jax.lax.map(one, (levels, rounds))


def _merged(
  levels: Array, mixing_levels: Array, rounds: Rounds, mixings: Sequence[Mixing], options: Any
) -> Images:
  number, num_rounds = rounds.mixing.shape
  flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rounds.steps)
  processed = _steps.merged_step(jnp.repeat(levels, num_rounds, axis=0), flat, **options)
  processed = processed.reshape(number, num_rounds, *levels.shape[1:])
  other = jax.vmap(lambda own: _window(mixing_levels, own, levels.shape[1:]))(rounds)
  mixed = jnp.zeros(levels.shape)
  for r in range(num_rounds):
    chosen = rounds.from_original[:, r, None, None, None]
    v = from_levels(jnp.where(chosen, processed[:, r], other))
    a, b, coin = (x[:, r, None, None, None] for x in (rounds.a, rounds.b, rounds.coin))
    new = mixed
    for i, mixing in enumerate(mixings):
      if (i == 0) == (r == 0):  # only round 0 replaces
        wanted = (rounds.mixing[:, r] == i) & (r <= rounds.count)
        value = jnp.clip(mixing(mixed, v, a, b, coin), 0, 1)
        new = jnp.where(wanted[:, None, None, None], value, new)
    mixed = new
  return mixed


@checks.inputs()
def pixmix(
  key: AnyKey,
  images: Images,
  mixing_images: Float[Array, "M P Q C"] | UInt8[Array, "M P Q C"],
  *,
  k: int = 4,
  beta: Number = 3,
  severity: Number = 3,
  all_ops: bool = True,
  mixings: tuple[str, ...] = ("add", "multiply"),
  fill: Number | tuple[float, ...] = 0.0,
  formulation: str = "auto",
) -> Images:
  """Mixes each picture 0 to k times with itself, processed, or with a picture of a mixing set.

  Each round adds or multiplies a processed version of the original, or (equally likely) a random
  window of the one mixing picture drawn for this example. There is no gradient.

  ```python
  pictures = augment.mixing_images(key, 2, size=20)
  images = augment.pixmix(key, images, pictures)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1], cut to 8-bit levels.
    mixing_images: at least as large as the pictures (a random window is used), in [0, 1] or uint8;
      `mixing_images(key, num, size=36)` makes a set for 32 pixels without any download.
    k: most rounds; their number is uniform on 0..k.
    beta: of the Beta distributions of the mixing factors; 3 on CIFAR, 4 on ImageNet.
    severity: highest level of an operation, in [0.1, 10]; 3 on CIFAR, 1 on ImageNet.
    all_ops: whether color, contrast, brightness and sharpness take part, as in the paper's runs.
    mixings: drawn uniformly in each round; `MIXINGS` lists experimental ones too.
    fill: pixel value, or one per channel, of what a warp brings in from outside.
    formulation: "auto", "serial" or "merged"; changes the speed only.

  Raises:
    ValueError: if a keyword is out of range or the mixing pictures are too small.
  """
  drawn: dict[str, Any] = {"k": k, "beta": beta, "severity": severity, "all_ops": all_ops}
  mixings = tuple(mixings)
  _options.check("pixmix", _RULES, **drawn, mixings=mixings, fill=fill, formulation=formulation)
  height, width, channels = images.shape[1:]
  if len(mixing_images) == 0 or not (
    mixing_images.shape[1] >= height
    and mixing_images.shape[2] >= width
    and mixing_images.shape[3] == channels
  ):
    raise ValueError(
      f"pixmix: mixing_images: expected pictures of at least {height}x{width} with {channels} "
      f"channels, got an array of shape {mixing_images.shape}."
    )
  each, fills = keys.per_example(key, len(images)), jnp.asarray(fill, jnp.float32)
  serial = _steps.is_serial(formulation)
  return _pixmix(each, images, mixing_images, fills, mixings=mixings, serial=serial, **drawn)


@functools.partial(jax.jit, static_argnames=(*_DRAWN, "mixings", "serial"))
def _pixmix(
  each: PRNGKeys,
  images: Images,
  mixing_images: Array,
  fill: Float[Array, "*c"],
  *,
  mixings: tuple[str, ...],
  serial: bool,
  **drawn: Any,
) -> Images:
  shapes = {"shape": images.shape[1:3], "mixing_shape": mixing_images.shape[:3]}
  is_levels = mixing_images.dtype == jnp.uint8
  return mix_rounds(
    images,
    mixing_images if is_levels else to_levels(mixing_images),
    draw_rounds(each, num_mixings=len(mixings), **shapes, **drawn),
    ops=ops_used(all_ops=drawn["all_ops"]),
    mixings=tuple(MIXINGS[name] for name in mixings),
    fill=to_levels(jnp.broadcast_to(fill, images.shape[-1:])),
    serial=serial,
  )


def _describe(
  scene: Scene, *, mixing_images: Array, mixings: tuple[str, ...], **options: Any
) -> Account:
  shapes = {"shape": scene.shape, "mixing_shape": mixing_images.shape[:3]}
  decide = {name: options[name] for name in _DRAWN}
  drawn = draw_rounds(scene.own, num_mixings=len(mixings), **shapes, **decide)
  account: Account = []
  for r in range(int(drawn.count[0]) + 1):
    source: dict[str, Any] = {"mixing_picture": int(drawn.picture[0])}
    source |= {"top": int(drawn.top[0]), "left": int(drawn.left[0])}
    if bool(drawn.from_original[0, r]):
      own = jax.tree.map(lambda leaf, r=r: leaf[0, r], drawn.steps)
      source = {"original": _steps.describe(own)[0]}
    if r == 0:
      account.append({"op": "start", **source})
      continue
    factors = {"a": short(drawn.a[0, r]), "b": short(drawn.b[0, r])}
    account.append({"op": tuple(mixings)[int(drawn.mixing[0, r]) - 1], **factors, **source})
  return account


ENTRIES = {
  "pixmix": Entry(
    pixmix,
    _describe,
    rules=_RULES,
    examples=lambda side: {
      "pixmix": {},
      "pixmix experim.": {"mixings": tuple(MIXINGS)[2:]},
    },
  ),
}
