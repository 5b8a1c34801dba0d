# SPDX-License-Identifier: Apache-2.0
"""The attacks of the papers, as keywords of `pgd`. Budgets are in pixel units of [0, 1].

The untargeted attacks of Mixup Inference take the model's own clean prediction as label
(`predicted_labels`); the targeted ones a uniformly drawn wrong class (`random_targets`).
"""

from typing import Any

_MIXUP_INFERENCE = {"norm": "linf", "epsilon": 8 / 255, "step_size": 2 / 255, "random_start": True}
_JKU = {"norm": "l2", "random_start": False, "keep": "best"}

PRESETS: dict[str, dict[str, Any]] = {
  # Hendrycks et al. 2022 (PixMix), and MixBoost's column "PGD error": true labels, last iterate,
  # a start that is not clipped to [0, 1] before the first step.
  "pixmix": {
    "norm": "linf",
    "epsilon": 2 / 255,
    "step_size": 0.5 / 255,
    "num_steps": 20,
    "random_start": True,
    "clip_start": False,
  },
  # Pang et al. 2020, Tables 2 and 3.
  "mixup-inference-10": {**_MIXUP_INFERENCE, "num_steps": 10},
  "mixup-inference-50": {**_MIXUP_INFERENCE, "num_steps": 50},
  "mixup-inference-200": {**_MIXUP_INFERENCE, "num_steps": 200},
  "mixup-inference-10-targeted": {**_MIXUP_INFERENCE, "num_steps": 10, "targeted": True},
  "mixup-inference-50-targeted": {**_MIXUP_INFERENCE, "num_steps": 50, "targeted": True},
  "mixup-inference-200-targeted": {**_MIXUP_INFERENCE, "num_steps": 200, "targeted": True},
  # Risk under attack of the JKU lecture: step epsilon / 5, best iterate, no random start.
  "jku-0.25-10": {**_JKU, "epsilon": 0.25, "step_size": 0.05, "num_steps": 10},
  "jku-0.25-100": {**_JKU, "epsilon": 0.25, "step_size": 0.05, "num_steps": 100},
  "jku-0.5-10": {**_JKU, "epsilon": 0.5, "step_size": 0.1, "num_steps": 10},
  "jku-0.5-100": {**_JKU, "epsilon": 0.5, "step_size": 0.1, "num_steps": 100},
  # Tramer et al. 2020 against Mixup Inference: steps of 1/255 where pixels span [-1, 1].
  "tramer-2020": {
    "norm": "linf",
    "epsilon": 8 / 255,
    "step_size": 0.5 / 255,
    "num_steps": 50,
    "random_start": True,
  },
}
