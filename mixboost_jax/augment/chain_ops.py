# SPDX-License-Identifier: Apache-2.0
"""The operations of AugMix and PixMix and how a severity becomes their magnitudes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.augment.steps import ENHANCERS, Op, Steps, traced_steps
from mixboost_jax.augment.tabled import index
from mixboost_jax.image.quantize import rounded

BASE_OPS = (
  Op.AUTOCONTRAST,
  Op.EQUALIZE,
  Op.POSTERIZE,
  Op.ROTATE,
  Op.SOLARIZE,
  Op.SHEAR_X,
  Op.SHEAR_Y,
  Op.TRANSLATE_X,
  Op.TRANSLATE_Y,
)
ALL_OPS = (*BASE_OPS, Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS)
"""With the four that overlap with the corruptions of the test sets."""
INTERPOLATION = "bilinear"


def ops_used(*, all_ops: bool) -> tuple[Op, ...]:
  """Returns what may be applied, the identity included (it stands for "no step")."""
  return (Op.IDENTITY, *sorted(ALL_OPS if all_ops else BASE_OPS))


def steps_at(
  u: Float[Array, "*n 3"], *, severity: float, all_ops: bool, height: int, width: int
) -> Steps:
  """Turns three uniform numbers into a step: operation, level in [0.1, severity), sign.

  Magnitudes at level l: posterize 4 - int(0.4 l) bits, rotate +-int(3 l) degrees, solarize from
  256 - int(25.6 l), shear +-0.03 l, translate +-int(side l / 30) pixels, enhancers 0.18 l + 0.1.

  Args:
    u: in [0, 1).
    severity: highest level, in [0.1, 10].
    all_ops: whether the enhancers take part.
    height: of the pictures, pixels.
    width: of the pictures, pixels.
  """
  choices = ALL_OPS if all_ops else BASE_OPS
  op = jnp.asarray(np.asarray(choices, np.int32))[index(u[..., 0], len(choices))]
  level = 0.1 + rounded((severity - 0.1) * u[..., 1])
  sign = jnp.where(u[..., 2] < 0.5, -1.0, 1.0)
  magnitude = _magnitude(op, level, sign, height=height, width=width)
  return traced_steps(
    op,
    magnitude,
    height=height,
    width=width,
    max_degrees=int(3 * severity),
    interpolation=INTERPOLATION,
  )


def _magnitude(
  op: Int[Array, "*n"],
  level: Float[Array, "*n"],
  sign: Float[Array, "*n"],
  *,
  height: int,
  width: int,
) -> Float[Array, "*n"]:
  values = {
    Op.POSTERIZE: 4 - jnp.floor(level * 4 / 10),
    Op.ROTATE: sign * jnp.floor(level * 30 / 10),
    Op.SOLARIZE: 256 - jnp.floor(level * 256 / 10),
    Op.SHEAR_X: sign * level * 0.3 / 10,
    Op.SHEAR_Y: sign * level * 0.3 / 10,
    Op.TRANSLATE_X: sign * jnp.floor(level * (width / 3) / 10),
    Op.TRANSLATE_Y: sign * jnp.floor(level * (height / 3) / 10),
    **dict.fromkeys(ENHANCERS, rounded(level * 0.18) + 0.1),
  }
  magnitude = jnp.zeros_like(level)
  for which, value in values.items():
    magnitude = jnp.where(op == which, value, magnitude)
  return magnitude
