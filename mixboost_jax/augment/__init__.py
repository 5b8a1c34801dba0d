# SPDX-License-Identifier: Apache-2.0
"""Augmentations of batches: pictures in [0, 1] in, pictures in [0, 1] out.

Every function takes one key, or one key per example; what happens to an example depends on its
own key only. Functions named in `MIXES_LABELS` mix examples, and take and return soft labels; the
partner of an example is its predecessor in the shuffled batch (see `mixup`). An `Entry` of
`AUGMENTATIONS` is all that configs, `build`, `explain` and the contact sheet know about one.

Policies of Pillow's operations cut pictures to 8-bit levels. Their `fill` is the pixel value, or
one per channel, of what a warp brings in from outside; their `formulation` ("auto", "serial" or
"merged") changes the speed only.

Bytes are refused. Floats of 0 to 255 are refused in NumPy arrays; in arrays of JAX only a run with
`MIXBOOST_CHECKS=1` notices them (see `checks`), because to look would wait for the device.

Gradients with respect to the pictures: policies of Pillow's operations (`autoaugment`,
`randaugment`, `trivial_augment_wide`, `ops`) have none, since they work on 8-bit levels; `augmix`
has that of the picture's own share alone and `pixmix` none. `attacks.bpda(fn)` differentiates any
of them straight through. The others (flip, crops, cutout, `color_jitter`, noise, blur, grey and
mixes) have the gradient of their formula.
"""

from mixboost_jax.augment import ops
from mixboost_jax.augment._augmix import augmix, augmix_views
from mixboost_jax.augment._autoaugment import autoaugment
from mixboost_jax.augment._classical import (
  alternating_flip,
  color_jitter,
  cutout,
  draw_attempts,
  draw_flips,
  gaussian_blur,
  gaussian_noise,
  place_window,
  random_crop,
  random_flip,
  random_grayscale,
  random_resized_crop,
)
from mixboost_jax.augment._entry import Entry, Scene
from mixboost_jax.augment._explain import explain
from mixboost_jax.augment._generated import draw_swaps, swap_in_class
from mixboost_jax.augment._mixing_set import FAMILIES, mixing_images, spectral_noise
from mixboost_jax.augment._mixup import (
  ManifoldMix,
  cutmix,
  draw_manifold_mix,
  manifold_tap,
  mix_with_partner,
  mixup,
  sample_pairing,
  sample_pairing_active,
  smote,
)
from mixboost_jax.augment._pixmix import pixmix
from mixboost_jax.augment._policy import (
  AUGMENTATIONS,
  COMPOSITES,
  MIXES_LABELS,
  Augmentation,
  build,
  choice,
  compose,
  entries_in,
  identity,
  over_mesh,
  policy_problem,
  with_probability,
)
from mixboost_jax.augment._randaugment import randaugment, trivial_augment_wide

__all__ = [
  "AUGMENTATIONS",
  "COMPOSITES",
  "FAMILIES",
  "MIXES_LABELS",
  "Augmentation",
  "Entry",
  "ManifoldMix",
  "Scene",
  "alternating_flip",
  "augmix",
  "augmix_views",
  "autoaugment",
  "build",
  "choice",
  "color_jitter",
  "compose",
  "cutmix",
  "cutout",
  "draw_attempts",
  "draw_flips",
  "draw_manifold_mix",
  "draw_swaps",
  "entries_in",
  "explain",
  "gaussian_blur",
  "gaussian_noise",
  "identity",
  "manifold_tap",
  "mix_with_partner",
  "mixing_images",
  "mixup",
  "ops",
  "over_mesh",
  "pixmix",
  "place_window",
  "policy_problem",
  "randaugment",
  "random_crop",
  "random_flip",
  "random_grayscale",
  "random_resized_crop",
  "sample_pairing",
  "sample_pairing_active",
  "smote",
  "spectral_noise",
  "swap_in_class",
  "trivial_augment_wide",
  "with_probability",
]


def __dir__() -> list[str]:
  return __all__
