# SPDX-License-Identifier: Apache-2.0
"""Flip, padded crop and cutout: the classical transforms of small pictures."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mixboost_jax import checks, keys
from mixboost_jax import image as kernels
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.augment import parameters
from mixboost_jax.augment.parameters import Number


@jax.jit
def draw_flips(each: PRNGKeys) -> Bool[Array, " N"]:
  """Draws which examples are mirrored."""
  return jax.vmap(jax.random.bernoulli)(each)


@checks.inputs()
def random_flip(key: AnyKey, images: Images) -> Images:
  """Mirrors each picture left to right with probability one half.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
  """
  flipped = draw_flips(keys.per_example(key, len(images)))
  return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


@functools.partial(jax.jit, static_argnames="padding")
def draw_offsets(each: PRNGKeys, *, padding: int) -> Int[Array, "N 2"]:
  """Draws (top, left) of each window in the padded picture."""
  return jax.vmap(lambda k: jax.random.randint(k, (2,), 0, 2 * padding + 1))(each)


@checks.inputs()
def random_crop(key: AnyKey, images: Images, *, padding: int, fill: Number = 0.0) -> Images:
  """Pads each picture by `padding` pixels and cuts out a window of the old size.

  All (2 padding + 1)^2 offsets are equally likely; the border is black by default, in pixel units.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    padding: pixels, >= 0; 0 returns the pictures unchanged.
    fill: value of the border, in [0, 1].
  """
  parameters.check("random_crop", padding=padding, fill=fill)
  if padding == 0:
    return images
  number, height, width, _ = images.shape
  offsets = draw_offsets(keys.per_example(key, number), padding=padding)

  def one(image: jax.Array, offset: jax.Array) -> jax.Array:
    padded = kernels.pad(image, padding=padding, fill=fill)
    return kernels.crop(padded, offset[0], offset[1], height=height, width=width)

  return jax.vmap(one)(images, offsets)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def draw_centres(each: PRNGKeys, *, height: int, width: int) -> Int[Array, "N 2"]:
  """Draws one (row, column) per example, uniform over the pixels."""
  key_row, key_column = keys.split_each(each, 2)
  row = jax.vmap(lambda k: jax.random.randint(k, (), 0, height))(key_row)
  column = jax.vmap(lambda k: jax.random.randint(k, (), 0, width))(key_column)
  return jnp.stack([row, column], axis=1)


@checks.inputs()
def cutout(
  key: AnyKey, images: Images, *, length: int, fill: Number | tuple[float, ...] = 0.5
) -> Images:
  """Fills one square per picture; its centre is uniform over the pixels.

  Paper: DeVries & Taylor 2017, arXiv:1708.04552, Sec. 3: side 16 (CIFAR-10), 8 (CIFAR-100),
    20 (SVHN). The square is [c - length // 2, c + length // 2) in each direction, clipped at the
    border, so an odd `length` loses one pixel.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    length: side in pixels, >= 0.
    fill: pixel value, or one per channel; the mean with which the model normalises is 0 there.
  """
  parameters.check("cutout", length=length, fill=fill)
  number, height, width, _ = images.shape
  half = length // 2
  centres = draw_centres(keys.per_example(key, number), height=height, width=width)

  def one(image: jax.Array, centre: jax.Array) -> jax.Array:
    row, column = centre[0], centre[1]
    inside = kernels.box_mask(
      row - half, column - half, row + half, column + half, height=height, width=width
    )
    return kernels.fill_where(image, inside, fill=fill)

  return jax.vmap(one)(images, centres)
