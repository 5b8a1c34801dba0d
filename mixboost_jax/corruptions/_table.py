# SPDX-License-Identifier: Apache-2.0
"""Which function a name stands for, the constants of its severities, and the call by name.

Papers: Hendrycks & Dietterich 2019, arXiv:1903.12261 (-C and -P); Mintun et al. 2021,
arXiv:2102.11273 (C-bar). `CIFAR` and `IMAGENET` hold severities 1..5 of each corruption: the values
of its `fields`. Lengths are pixels of 32x32 and 224x224 pictures and are used as they are for other
sizes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Image, Images, PRNGKeys
from mixboost_jax.corruptions import _bar, _blur, _digital, _noise, _weather
from mixboost_jax.image.levels import cut, from_levels, to_levels
from mixboost_jax.image.linear import gaussian_blur_of_width
from mixboost_jax.keys import per_example
from mixboost_jax.registry import lookup


class Corruption(NamedTuple):
  """A function of one picture, and the keywords that one severity gives values to."""

  function: Callable[..., Image]
  fields: tuple[str, ...]
  samples: bool = True
  """Whether the function takes a key first."""


_BAR = ("severity",)
CORRUPTIONS: dict[str, Corruption] = {
  "gaussian_noise": Corruption(_noise.gaussian_noise, ("sigma",)),
  "shot_noise": Corruption(_noise.shot_noise, ("photons",)),
  "impulse_noise": Corruption(_noise.impulse_noise, ("amount",)),
  "defocus_blur": Corruption(_blur.defocus_blur, ("radius", "alias_sigma"), samples=False),
  "glass_blur": Corruption(_blur.glass_blur, ("sigma", "delta", "num_sweeps")),
  "motion_blur": Corruption(_blur.motion_blur, ("radius", "sigma")),
  "zoom_blur": Corruption(_blur.zoom_blur, ("num_zooms", "step"), samples=False),
  "snow": Corruption(_weather.snow, ("mean", "deviation", "size", "cut", "radius", "sigma", "mix")),
  "frost_procedural": Corruption(_weather.frost_procedural, ("keep", "amount")),
  "fog": Corruption(_weather.fog, ("amount", "decay")),
  "brightness": Corruption(_digital.brightness, ("shift",), samples=False),
  "contrast": Corruption(_digital.contrast, ("factor",), samples=False),
  "elastic_transform": Corruption(_digital.elastic_transform, ("strength", "sigma", "jitter")),
  "pixelate": Corruption(_digital.pixelate, ("share",), samples=False),
  "jpeg_compression": Corruption(_digital.jpeg_compression, ("quality",), samples=False),
  "speckle_noise": Corruption(_noise.speckle_noise, ("sigma",)),
  "gaussian_blur": Corruption(gaussian_blur_of_width, ("sigma",), samples=False),
  "spatter_approximate": Corruption(
    _weather.spatter_approximate, ("mean", "deviation", "sigma", "cut", "strength", "mud")
  ),
  "saturate": Corruption(_digital.saturate, ("factor", "shift"), samples=False),
  "blue_noise_sample": Corruption(_bar.blue_noise_sample, _BAR),
  "brownish_noise": Corruption(_bar.brownish_noise, _BAR),
  "checkerboard_cutout": Corruption(_bar.checkerboard_cutout, _BAR),
  "inverse_sparkles": Corruption(_bar.inverse_sparkles, _BAR),
  "pinch_and_twirl": Corruption(_bar.pinch_and_twirl, _BAR),
  "ripple": Corruption(_bar.ripple, _BAR),
  "sparkles": Corruption(_bar.sparkles, _BAR),
  "circular_motion_blur": Corruption(_bar.circular_motion_blur, _BAR, samples=False),
  "lines": Corruption(_bar.lines, _BAR),
  "transverse_chromatic_abberation": Corruption(_bar.transverse_chromatic_abberation, _BAR),
  "caustic_refraction": Corruption(_bar.caustic_refraction, _BAR),
  "perlin_noise": Corruption(_bar.perlin_noise, _BAR),
  "plasma_noise": Corruption(_bar.plasma_noise, _BAR),
  "cocentric_sine_waves": Corruption(_bar.cocentric_sine_waves, _BAR),
  "single_frequency_greyscale": Corruption(_bar.single_frequency_greyscale, _BAR),
}

Levels = tuple[Any, Any, Any, Any, Any]

CIFAR: dict[str, Levels] = {
  "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
  "shot_noise": (500, 250, 100, 75, 50),
  "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
  "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
  "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
  "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
  "zoom_blur": ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
  "snow": (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
  ),
  "frost_procedural": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
  "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
  "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
  "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
  "elastic_transform": (
    (0, 0, 2.56),
    (1.6, 6.4, 2.24),
    (2.56, 1.92, 1.92),
    (3.2, 1.28, 1.6),
    (3.2, 0.96, 0.96),
  ),
  "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
  "jpeg_compression": (80, 65, 58, 50, 40),
  "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
  "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
  "spatter_approximate": (
    (0.62, 0.1, 0.7, 0.7, 0.5, 0),
    (0.65, 0.1, 0.8, 0.7, 0.5, 0),
    (0.65, 0.3, 1, 0.69, 0.5, 0),
    (0.65, 0.1, 0.7, 0.69, 0.6, 1),
    (0.65, 0.1, 0.5, 0.68, 0.6, 1),
  ),
  "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
  "blue_noise_sample": (0.7, 1.4, 2.1, 3.5, 4.2),
  "brownish_noise": (2.5, 4, 5.5, 6.5, 7),
  "checkerboard_cutout": (1, 2, 3, 4, 5),
  "inverse_sparkles": (1, 1.5, 2.5, 4.5, 5),
  "pinch_and_twirl": (5.5, 6, 6.5, 8.5, 10),
  "ripple": (5.5, 6, 6.5, 7.5, 8),
  "sparkles": (0.7, 3.5, 5.6, 6.3, 7),
  "circular_motion_blur": (2.8, 3.6, 4.4, 5.2, 6),
  "lines": (0.5, 1, 1.5, 2, 2.5),
  "transverse_chromatic_abberation": (1, 2, 5, 9, 10),
}

IMAGENET: dict[str, Levels] = {
  "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
  "shot_noise": (60, 25, 12, 5, 3),
  "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
  "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
  "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
  "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
  "zoom_blur": ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
  "snow": (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
  ),
  "frost_procedural": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
  "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
  "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
  "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
  "elastic_transform": (
    (488, 170.8, 24.4),
    (488, 19.52, 48.8),
    (12.2, 2.44, 4.88),
    (17.08, 2.44, 4.88),
    (29.28, 2.44, 4.88),
  ),
  "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
  "jpeg_compression": (25, 18, 15, 10, 7),
  "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
  "gaussian_blur": (1, 2, 3, 4, 6),
  "spatter_approximate": (
    (0.65, 0.3, 4, 0.69, 0.6, 0),
    (0.65, 0.3, 3, 0.68, 0.6, 0),
    (0.65, 0.3, 2, 0.68, 0.5, 0),
    (0.65, 0.3, 1, 0.65, 1.5, 1),
    (0.67, 0.4, 1, 0.65, 1.5, 1),
  ),
  "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
  "caustic_refraction": (2.35, 3.2, 4.9, 6.6, 9.15),
  "inverse_sparkles": (1, 2, 4, 9, 10),
  "sparkles": (1, 2, 3, 5, 6),
  "perlin_noise": (4.6, 5.2, 5.8, 7.6, 8.8),
  "blue_noise_sample": (0.8, 1.6, 2.4, 4, 5.6),
  "plasma_noise": (4.75, 7, 8.5, 9.25, 10),
  "checkerboard_cutout": (2, 3, 4, 5, 6),
  "cocentric_sine_waves": (3, 5, 8, 9, 10),
  "single_frequency_greyscale": (1, 1.5, 2, 4.5, 5),
  "brownish_noise": (1, 2, 3, 4, 5),
}

SEVERITIES: dict[str, dict[str, Levels]] = {"cifar": CIFAR, "imagenet": IMAGENET}
LARGEST_CIFAR_SIDE = 96
"""With `table="auto"`, pictures whose longer side is at most this take the "cifar" table."""


@checks.inputs()
def choose_table(table: str, *, height: int, width: int) -> str:
  """Resolves "auto": "cifar" up to 96 pixels a side, "imagenet" above.

  ```python
  assert corruptions.choose_table("auto", height=32, width=32) == "cifar"
  ```
  """
  if table == "auto":
    return "cifar" if max(height, width) <= LARGEST_CIFAR_SIDE else "imagenet"
  lookup(SEVERITIES, table, field="corruptions.table")
  return table


@checks.inputs()
def parameters(name: str, *, severity: int, table: str) -> dict[str, Any]:
  """Returns the keywords of a corruption at a severity of 1..5 of a table ("cifar", "imagenet").

  ```python
  keywords = corruptions.parameters("gaussian_noise", severity=3, table="cifar")
  assert keywords == {"sigma": 0.08}
  ```

  Raises:
    ValueError: if the name is unknown, has no severities in this table, or the severity is wrong.
  """
  corruption = lookup(CORRUPTIONS, name, field="corruptions.name")
  if name not in SEVERITIES[table]:
    (other,) = (t for t in SEVERITIES if t != table)
    raise ValueError(
      f"corruptions.name: {name!r} has no severities in table {table!r}; use table={other!r}."
    )
  if severity not in (1, 2, 3, 4, 5):
    raise ValueError(f"corruptions.severity: expected 1, 2, 3, 4 or 5, got {severity!r}.")
  level = SEVERITIES[table][name][severity - 1]
  values = level if isinstance(level, tuple) else (level,)
  return dict(zip(corruption.fields, values, strict=True))


@checks.inputs(values="always")
def corrupt(
  key: AnyKey,
  images: Images,
  *,
  name: str,
  severity: int,
  table: str = "auto",
  straight_through: bool = False,
) -> Images:
  """Corrupts a batch; each picture's draws depend on its own key only.

  Papers: Hendrycks & Dietterich 2019, arXiv:1903.12261 (-C); Mintun et al. 2021,
  arXiv:2102.11273 (C-bar).
  Deviation: the released sets were drawn by other generators, so a generated set has their law and
  not their pixels; `frost_procedural` and `spatter_approximate` differ in kind (see their files).

  ```python
  noisy = corruptions.corrupt(key, images, name="gaussian_noise", severity=3)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1] (others are refused, traced ones with `MIXBOOST_CHECKS=1` only), one or
      three channels, any size.
    name: a key of `CORRUPTIONS`.
    severity: 1..5.
    table: "cifar" or "imagenet" constants; "auto" chooses by the size of the pictures.
    straight_through: pass gradients through the final cut to levels as if it were not there; the
      values are the same. Otherwise the gradient is 0. A corruption that cuts to levels on its way
      (JPEG, glass, snow and others) loses that part of the gradient in any case: `attacks.bpda`
      replaces all of it.

  Returns:
    Same shape; multiples of 1/255, cut and not rounded, as the benchmarks store them.

  Raises:
    ValueError: for an unknown name, severity, table or number of channels.
  """
  number, height, width, channels = images.shape
  table = choose_table(table, height=height, width=width)
  parameters(name, severity=severity, table=table)
  if channels not in (1, 3):
    raise ValueError(f"corrupt: expected 1 or 3 channels, got {channels}.")
  keys = per_example(key, number)
  options = {"table": table, "straight_through": straight_through}
  return _corrupt(keys, images, name=name, severity=severity, **options)


@functools.partial(jax.jit, static_argnames=("name", "severity", "table", "straight_through"))
def _corrupt(
  keys: PRNGKeys, images: Images, *, name: str, severity: int, table: str, straight_through: bool
) -> Images:
  corruption = CORRUPTIONS[name]
  change = functools.partial(
    corruption.function, **parameters(name, severity=severity, table=table)
  )
  changed = jax.vmap(change)(keys, images) if corruption.samples else jax.vmap(change)(images)
  return cut(changed) if straight_through else from_levels(to_levels(changed))
