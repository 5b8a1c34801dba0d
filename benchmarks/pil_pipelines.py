# SPDX-License-Identifier: Apache-2.0
"""The peer of `benchmarks/augment.py`: the policies as a data loader does them.

One PIL picture at a time, uint8 in and float32 out. Written from the papers; imports no JAX.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Picture = Image.Image
NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
AFFINE = Image.Transform.AFFINE


def warp(picture: Picture, matrix: tuple[float, ...], sampling: Image.Resampling) -> Picture:
  return picture.transform(picture.size, AFFINE, matrix, sampling)


def apply(picture: Picture, op: str, m: float, sampling: Image.Resampling) -> Picture:
  if op == "rotate":
    return picture.rotate(m, sampling)
  if op == "shear_x":
    return warp(picture, (1, m, 0, 0, 1, 0), sampling)
  if op == "shear_y":
    return warp(picture, (1, 0, 0, m, 1, 0), sampling)
  if op == "translate_x":
    return warp(picture, (1, 0, m, 0, 1, 0), sampling)
  if op == "translate_y":
    return warp(picture, (1, 0, 0, 0, 1, m), sampling)
  if op == "posterize":
    return ImageOps.posterize(picture, int(m))
  if op == "solarize":
    return ImageOps.solarize(picture, m)
  if op == "autocontrast":
    return ImageOps.autocontrast(picture)
  if op == "equalize":
    return ImageOps.equalize(picture)
  if op == "invert":
    return ImageOps.invert(picture)
  if op in ("color", "contrast", "brightness", "sharpness"):
    return getattr(ImageEnhance, op.capitalize())(picture).enhance(m)
  return picture


UNIFORM_OPS = (
  *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize"),
  *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
CHAIN_OPS = (
  *("autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y"),
  *("translate_x", "translate_y"),
)
ALL_CHAIN_OPS = (*CHAIN_OPS, "color", "contrast", "brightness", "sharpness")


def scaled(op: str, share: float, shear: float, shift: float, turn: float, bits: int) -> float:
  """Returns the magnitude at `share` of the range, with its random sign."""
  sign = 1 if np.random.random() < 0.5 else -1
  if op.startswith("shear"):
    return sign * shear * share
  if op.startswith("translate"):
    return sign * int(shift * share)
  if op == "rotate":
    return sign * turn * share
  if op == "posterize":
    return 8 - round(bits * share)
  if op == "solarize":
    return 255 - 255 * share
  return 1 + sign * 0.99 * share


def trivial(picture: Picture) -> np.ndarray:
  op = UNIFORM_OPS[np.random.randint(14)]
  m = scaled(op, np.random.randint(31) / 30, 0.99, 32, 135, 6)
  return as_floats(apply(picture, op, m, NEAREST))


def randaugment(picture: Picture) -> np.ndarray:
  for _ in range(2):
    op = UNIFORM_OPS[np.random.randint(14)]
    m = scaled(op, 9 / 30, 0.3, 150 / 331 * picture.size[0], 30, 4)
    picture = apply(picture, op, m, NEAREST)
  return as_floats(picture)


def autoaugment(picture: Picture) -> np.ndarray:
  for op, probability, k in SUB_POLICIES[np.random.randint(25)]:
    if np.random.random() < probability:
      m = scaled(op, k / 9, 0.3, 150 / 331 * picture.size[0], 30, 4)
      picture = apply(picture, op, m, NEAREST)
  return as_floats(picture)


def chain_op(picture: Picture, ops: tuple[str, ...], severity: float) -> Picture:
  op = ops[np.random.randint(len(ops))]
  level = np.random.uniform(0.1, severity)
  sign = 1 if np.random.random() < 0.5 else -1
  if op == "posterize":
    m = 4 - int(level * 0.4)
  elif op == "rotate":
    m = sign * int(level * 3)
  elif op == "solarize":
    m = 256 - int(level * 25.6)
  elif op.startswith("shear"):
    m = sign * level * 0.03
  elif op.startswith("translate"):
    m = sign * int(level * picture.size[0] / 30)
  else:
    m = level * 0.18 + 0.1
  return apply(picture, op, m, BILINEAR)


def augmix(picture: Picture) -> np.ndarray:
  weights = np.random.dirichlet([1.0] * 3).astype(np.float32)
  m = np.float32(np.random.beta(1, 1))
  mixed = np.zeros((*picture.size[::-1], 3), np.float32)
  for weight in weights:
    processed = picture
    for _ in range(np.random.randint(1, 4)):
      processed = chain_op(processed, CHAIN_OPS, 3)
    mixed += weight * as_floats(processed)
  return (1 - m) * as_floats(picture) + m * mixed


def pixmix(picture: Picture) -> np.ndarray:
  size = picture.size[0]
  stored = MIXING[np.random.randint(len(MIXING))]
  top, left = np.random.randint(len(stored) - size + 1, size=2)
  other = stored[top : top + size, left : left + size].astype(np.float32) / 255

  def processed() -> np.ndarray:
    return as_floats(chain_op(picture, ALL_CHAIN_OPS, 3))

  mixed = processed() if np.random.random() < 0.5 else as_floats(picture)
  for _ in range(np.random.randint(5)):
    v = processed() if np.random.random() < 0.5 else other
    if np.random.random() < 0.5:
      a, b = np.float32(np.random.beta(3, 1)), np.float32(np.random.beta(1, 3))
    else:
      a, b = 1 + np.float32(np.random.beta(1, 3)), -np.float32(np.random.beta(1, 3))
    if np.random.random() < 0.5:
      mixed = (a * (2 * mixed - 1) + b * (2 * v - 1) + 1) / 2
    else:
      mixed = (2 * mixed) ** a * np.maximum(2 * v, 1e-37) ** b / 2
    mixed = np.clip(mixed, 0, 1)
  return mixed


def as_floats(picture: Picture) -> np.ndarray:
  return np.asarray(picture, np.float32) / 255


PIPELINES: dict[str, Callable[[Picture], np.ndarray]] = {
  "trivial_augment_wide": trivial,
  "randaugment": randaugment,
  "autoaugment": autoaugment,
  "augmix": augmix,
  "pixmix": pixmix,
}
MIXING = np.zeros((0, 1, 1, 3), np.uint8)
SUB_POLICIES: tuple = ()


def prepare(mixing_size: int, sub_policies: tuple) -> None:
  """Gives a worker process its mixing set and the AutoAugment list."""
  global MIXING, SUB_POLICIES
  rng = np.random.default_rng(0)
  MIXING = rng.integers(0, 256, (64, mixing_size, mixing_size, 3)).astype(np.uint8)
  SUB_POLICIES = sub_policies


def process(name: str, size: int, seconds: float, seed: int) -> tuple[int, float]:
  """Processes pictures for about `seconds`; returns how many and the exact time."""
  np.random.seed(seed)
  rng = np.random.default_rng(seed)
  pictures = rng.integers(0, 256, (64, size, size, 3)).astype(np.uint8)
  pipeline = PIPELINES[name]
  start, count = time.perf_counter(), 0
  while (elapsed := time.perf_counter() - start) < seconds:
    for pixels in pictures[: max(1, math.ceil(8192 / size**2))]:
      pipeline(Image.fromarray(pixels))
      count += 1
  return count, elapsed
