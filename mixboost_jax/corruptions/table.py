# SPDX-License-Identifier: Apache-2.0
"""Which function a name stands for, and what the entries of its severities mean."""

from collections.abc import Callable
from typing import NamedTuple

from mixboost_jax.array_types import Image
from mixboost_jax.corruptions.bar_cover import (
  checkerboard_cutout,
  inverse_sparkles,
  lines,
  sparkles,
)
from mixboost_jax.corruptions.bar_noise import (
  blue_noise_sample,
  brownish_noise,
  cocentric_sine_waves,
  perlin_noise,
  plasma_noise,
  single_frequency_greyscale,
)
from mixboost_jax.corruptions.bar_warp import (
  caustic_refraction,
  circular_motion_blur,
  pinch_and_twirl,
  ripple,
  transverse_chromatic_abberation,
)
from mixboost_jax.corruptions.blur import defocus_blur, gaussian_blur, motion_blur, zoom_blur
from mixboost_jax.corruptions.digital import elastic_transform, jpeg_compression, pixelate
from mixboost_jax.corruptions.glass import glass_blur
from mixboost_jax.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from mixboost_jax.corruptions.photometric import brightness, contrast, saturate
from mixboost_jax.corruptions.spatter import spatter_approximate
from mixboost_jax.corruptions.weather import fog, frost_procedural, snow


class Corruption(NamedTuple):
  """A function of one picture, and the keywords that one severity gives values to."""

  function: Callable[..., Image]
  fields: tuple[str, ...]
  samples: bool = True
  """Whether the function takes a key first."""


_BAR = ("severity",)
CORRUPTIONS: dict[str, Corruption] = {
  "gaussian_noise": Corruption(gaussian_noise, ("sigma",)),
  "shot_noise": Corruption(shot_noise, ("photons",)),
  "impulse_noise": Corruption(impulse_noise, ("amount",)),
  "defocus_blur": Corruption(defocus_blur, ("radius", "alias_sigma"), samples=False),
  "glass_blur": Corruption(glass_blur, ("sigma", "delta", "num_sweeps")),
  "motion_blur": Corruption(motion_blur, ("radius", "sigma")),
  "zoom_blur": Corruption(zoom_blur, ("num_zooms", "step"), samples=False),
  "snow": Corruption(snow, ("mean", "deviation", "size", "cut", "radius", "sigma", "mix")),
  "frost_procedural": Corruption(frost_procedural, ("keep", "amount")),
  "fog": Corruption(fog, ("amount", "decay")),
  "brightness": Corruption(brightness, ("shift",), samples=False),
  "contrast": Corruption(contrast, ("factor",), samples=False),
  "elastic_transform": Corruption(elastic_transform, ("strength", "sigma", "jitter")),
  "pixelate": Corruption(pixelate, ("share",), samples=False),
  "jpeg_compression": Corruption(jpeg_compression, ("quality",), samples=False),
  "speckle_noise": Corruption(speckle_noise, ("sigma",)),
  "gaussian_blur": Corruption(gaussian_blur, ("sigma",), samples=False),
  "spatter_approximate": Corruption(
    spatter_approximate, ("mean", "deviation", "sigma", "cut", "strength", "mud")
  ),
  "saturate": Corruption(saturate, ("factor", "shift"), samples=False),
  "blue_noise_sample": Corruption(blue_noise_sample, _BAR),
  "brownish_noise": Corruption(brownish_noise, _BAR),
  "checkerboard_cutout": Corruption(checkerboard_cutout, _BAR),
  "inverse_sparkles": Corruption(inverse_sparkles, _BAR),
  "pinch_and_twirl": Corruption(pinch_and_twirl, _BAR),
  "ripple": Corruption(ripple, _BAR),
  "sparkles": Corruption(sparkles, _BAR),
  "circular_motion_blur": Corruption(circular_motion_blur, _BAR, samples=False),
  "lines": Corruption(lines, _BAR),
  "transverse_chromatic_abberation": Corruption(transverse_chromatic_abberation, _BAR),
  "caustic_refraction": Corruption(caustic_refraction, _BAR),
  "perlin_noise": Corruption(perlin_noise, _BAR),
  "plasma_noise": Corruption(plasma_noise, _BAR),
  "cocentric_sine_waves": Corruption(cocentric_sine_waves, _BAR),
  "single_frequency_greyscale": Corruption(single_frequency_greyscale, _BAR),
}
