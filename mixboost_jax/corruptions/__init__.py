# SPDX-License-Identifier: Apache-2.0
"""Benchmark corruptions of pictures, drawn on the device: -C, C-bar and -P.

`corrupt` works on batches, `perturb_sequence` makes a short film of one picture. Two names say that
they are not what the benchmark does: `frost_procedural` draws its ice instead of pasting
photographs, `spatter_approximate` finds the rims of water drops in another way. `BENCHMARK_NAMES`
gives the name under which the benchmark lists them.

Results are 8-bit levels and have no gradient, unless `corrupt(straight_through=True)` is asked for.
"""

from mixboost_jax import checks
from mixboost_jax.corruptions._blur import glass_blur
from mixboost_jax.corruptions._films import SEQUENCES, perturb_sequence
from mixboost_jax.corruptions._table import (
  CORRUPTIONS,
  SEVERITIES,
  Corruption,
  choose_table,
  corrupt,
  parameters,
)

NAMES: dict[str, tuple[str, ...]] = {
  "c": (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost_procedural", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
  ),
  "c_extra": ("speckle_noise", "gaussian_blur", "spatter_approximate", "saturate"),
  "c_bar": (
    "blue_noise_sample", "brownish_noise", "checkerboard_cutout", "inverse_sparkles",
    "pinch_and_twirl", "ripple", "sparkles", "circular_motion_blur", "lines",
    "transverse_chromatic_abberation",
  ),
  "c_bar_imagenet": (
    "caustic_refraction", "inverse_sparkles", "sparkles", "perlin_noise", "blue_noise_sample",
    "plasma_noise", "checkerboard_cutout", "cocentric_sine_waves", "single_frequency_greyscale",
    "brownish_noise",
  ),
  "p": (
    "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow",
    "brightness", "translate", "rotate", "tilt", "scale",
  ),
  "p_extra": ("speckle_noise", "gaussian_blur", "spatter_approximate", "shear"),
  "p_code": (
    "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "spatter_approximate",
    "brightness", "translate", "rotate", "tilt", "scale",
  ),
}  # fmt: skip
"""Lists of names in the order of the benchmarks; those that begin with "p" are for
`perturb_sequence`.

"p" is the test set of the paper (Hendrycks & Dietterich 2019, arXiv:1903.12261, Sec. 4.2), which
holds snow out for testing and gives spatter for validation; reference flip rates exist for it
alone. "p_code" is the list over which the authors' evaluation of CIFAR-10-P (cifar-p-eval.py in
github.com/hendrycks/robustness) averages, and with it probably the published mFR on CIFAR: spatter
in place of snow.
"""

BENCHMARK_NAMES = {"frost_procedural": "frost", "spatter_approximate": "spatter"}
"""Names of the benchmark for the corruptions that only stand in for it."""

HELD_OUT = frozenset(CORRUPTIONS)
"""Corruptions that make a benchmark: a network trained on one must not be scored on it."""


@checks.inputs()
def training_warning(name: str) -> str | None:
  """Returns what to tell someone who trains on this corruption, or None if nothing is wrong.

  ```python
  assert corruptions.training_warning("posterize") is None
  print(corruptions.training_warning("fog"))  # training on 'fog', which belongs to ...
  ```
  """
  if name not in HELD_OUT:
    return None
  suites = ", ".join(suite for suite, names in NAMES.items() if name in names)
  return (
    f"training on {name!r}, which belongs to the benchmark lists {suites}: scores on these are "
    "no longer scores on unseen corruptions; leave it out of the mean or say so."
  )


__all__ = [
  "BENCHMARK_NAMES",
  "CORRUPTIONS",
  "HELD_OUT",
  "NAMES",
  "SEQUENCES",
  "SEVERITIES",
  "Corruption",
  "choose_table",
  "corrupt",
  "glass_blur",
  "parameters",
  "perturb_sequence",
  "training_warning",
]


def __dir__() -> list[str]:
  return __all__
