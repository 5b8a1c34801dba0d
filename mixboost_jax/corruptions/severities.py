# SPDX-License-Identifier: Apache-2.0
"""Every constant of the benchmarks: severities 1..5 of each corruption, per table.

Papers: Hendrycks & Dietterich 2019, arXiv:1903.12261 (-C and -P); Mintun et al. 2021,
arXiv:2102.11273 (C-bar). Lengths are pixels of 32x32 ("cifar") and 224x224 ("imagenet") pictures
and are used as they are for other sizes. Entries are the values of the fields in `registry.py`.
"""

from typing import Any

Level = Any
Levels = tuple[Level, Level, Level, Level, Level]

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
