# SPDX-License-Identifier: Apache-2.0
"""The games that `--job=interactions` and the training monitor play: pictures, fills, pairs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import data, interactions
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.interactions import Game, PairPopulation
from mixboost_jax.interactions.image import Fill
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Settings

MAX_SEARCHED = 2000
"""Pictures looked at to find enough that the network gets right."""


@dataclasses.dataclass(frozen=True)
class Pictures:
  """What is explained: float images in [0, 1], true classes, row numbers in the split."""

  images: Float[np.ndarray, "N H W C"]
  labels: Int[np.ndarray, " N"]
  rows: Int[np.ndarray, " N"]


def split_of(item: Run) -> data.Split:
  """Returns the split that `evaluate.split` names."""
  if item.settings.evaluate.split == "validation":
    assert item.dataset.validation is not None  # checked when the run was built
    return item.dataset.validation
  return item.dataset.test


def in_turn(labels: Int[np.ndarray, " N"], num: int) -> Int[np.ndarray, " num"]:
  """Returns the rows of the first picture of each class, then of the second, ...: `num` in all."""
  turn = np.zeros(len(labels), int)
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    turn[rows] = np.arange(len(rows))
  return np.lexsort((labels, turn))[:num]


def correct_pictures(item: Run, logits_fn: LogitsFn, *, num: int) -> Pictures:
  """Returns pictures that the network classifies correctly, of all classes in turn.

  Paper: the public code of Deng et al. 2022, arXiv:2111.06236, keeps correct pictures only.

  Raises:
    ValueError: if there is none.
  """
  split = split_of(item).part(0, MAX_SEARCHED)
  rows = classified(item, logits_fn, split)
  if not len(rows):
    raise ValueError(
      f"{item.settings.name}: the network gets none of {len(split)} pictures right, so there is "
      "nothing to explain; train it longer."
    )
  rows = rows[in_turn(split.labels[rows], num)]
  return Pictures(split.images[rows].astype(np.float32) / 255, split.labels[rows], rows)


def classified(item: Run, logits_fn: LogitsFn, split: data.Split) -> Int[np.ndarray, " rows"]:
  """Returns the rows of the split that the network classifies as labelled."""
  size = item.settings.evaluate.batch_size
  right = []
  for start in range(0, len(split), size):
    batch = split.part(start, start + size)
    padded = np.concatenate([batch.images, np.zeros_like(split.images[: size - len(batch)])])
    found = np.asarray(_predict(logits_fn, padded))[: len(batch)] == batch.labels
    right.append(start + np.flatnonzero(found))
  return np.concatenate(right)


@jax.jit
def _predict(network: LogitsFn, images: UInt8[Array, "N H W C"]) -> Int[Array, " N"]:
  return network(images.astype(jnp.float32) / 255).argmax(1)


def fill_of(item: Run) -> Fill:
  """Returns what an absent cell shows."""
  wanted, mean = item.settings.interactions.fill, item.settings.model.mean
  channels = item.dataset.image_shape[-1]
  plain = {"mean": mean, "data_mean": item.dataset.channel_mean, "black": (0.0,), "gray": (0.5,)}
  if wanted not in plain:
    return {"blur": "blur", "picture_mean": "mean"}[wanted]  # pyright: ignore[reportReturnType]
  values = plain[wanted]
  return np.asarray(values if len(values) == channels else values * channels, np.float32)[:channels]


def game_of(
  item: Run,
  logits_fn: LogitsFn,
  image: Float[np.ndarray, "H W C"],
  label: int | np.integer,
  *,
  grid: int,
) -> Game:
  """Makes the game of one picture; its evaluations are spread over the devices of the run."""
  chosen = item.settings.interactions
  replicated = meshes.replicated(item.mesh)
  game = interactions.image_game(
    logits_fn,
    jax.device_put(image, replicated),
    jax.device_put(np.asarray(label, np.int32), replicated),
    grid=grid,
    reward=chosen.reward,
    fill=fill_of(item),
  )
  sharding = meshes.batch_sharding(item.mesh) if item.mesh.size > 1 else None
  arguments = jax.device_put(game.args, replicated)
  return dataclasses.replace(game, args=arguments, sharding=sharding)


def games_of(item: Run, logits_fn: LogitsFn, pictures: Pictures, *, grid: int) -> list[Game]:
  """Makes the games of several pictures."""
  make = functools.partial(game_of, item, logits_fn, grid=grid)
  return [make(image, label) for image, label in zip(pictures.images, pictures.labels, strict=True)]


def population_of(settings: Settings) -> PairPopulation:
  """Returns the pairs that the curve averages over."""
  chosen = settings.interactions
  if chosen.pairs == "uniform":
    return interactions.grid_population(chosen.grid)
  kinds = {
    "neighbour": interactions.neighbour_population,
    "window": interactions.window_population,
  }
  return kinds[chosen.pairs](chosen.grid, stride=chosen.stride)


def orders_of(settings: Settings) -> tuple[int, ...]:
  """Returns the sampled orders; small grids merge some ratios."""
  chosen = settings.interactions
  return tuple(sorted(set(interactions.orders_of(chosen.grid**2, ratios=chosen.ratios))))


def check(item: Run) -> None:
  """Raises ValueError if the grids are finer than the pictures."""
  chosen, (height, width, _) = item.settings.interactions, item.dataset.image_shape
  for key in ("grid", "map_grid", "tree_grid"):
    if getattr(chosen, key) > min(height, width):
      raise ValueError(
        f"config.interactions.{key}={getattr(chosen, key)} is finer than the {height}x{width} "
        f"pictures of {item.dataset.title}; use at most {min(height, width)}."
      )
