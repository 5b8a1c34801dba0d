# SPDX-License-Identifier: Apache-2.0
"""The settings of Tables 4 and 5 of Pang et al. 2020 (arXiv:1909.11515), by data set and training.

Noise is halved against the printed numbers, whose pixels span [-1, 1]. For MI-Combined the paper
prints lambda_OL twice; the first is lambda_PL = 0.5, as the published code's description says.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import checks, registry
from mixboost_jax.array_types import AnyKey, Images, LogitsFn, Probabilities
from mixboost_jax.defenses import averaging, mixup
from mixboost_jax.defenses import pool as pools

DRAWS = {"num_draws": 30}
_COMBINED = {
  "name": "mixup_inference",
  "mode": "combined",
  "mix_weight_pl": 0.5,
  "mix_weight": 0.4,
  "threshold": 0.2,
  **DRAWS,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
  "cifar10/erm": {
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.6, **DRAWS},
  },
  "cifar10/mixup": {
    "gaussian-noise": {"name": "gaussian_noise", "noise_std": 0.04 / 2, **DRAWS},
    "rotation": {"name": "rotation", "max_degrees": 40.0, **DRAWS},
    "crop-pad": {"name": "crop_pad", "min_size": 16, "max_size": 24, **DRAWS},
    "crop-resize": {"name": "crop_resize", "min_size": 22, "max_size": 30, **DRAWS},
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.5, **DRAWS},
    "mi-combined": _COMBINED,
  },
  "cifar10/at": {
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.8, **DRAWS},
  },
  "cifar10/iat": {
    "gaussian-noise": {"name": "gaussian_noise", "noise_std": 0.075 / 2, **DRAWS},
    "rotation": {"name": "rotation", "max_degrees": 30.0, **DRAWS},
    "crop-pad": {"name": "crop_pad", "min_size": 20, "max_size": 28, **DRAWS},
    "crop-resize": {"name": "crop_resize", "min_size": 20, "max_size": 28, **DRAWS},
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.6, **DRAWS},
  },
  "cifar100/mixup": {
    "gaussian-noise": {"name": "gaussian_noise", "noise_std": 0.025 / 2, **DRAWS},
    "rotation": {"name": "rotation", "max_degrees": 20.0, **DRAWS},
    "crop-pad": {"name": "crop_pad", "min_size": 18, "max_size": 26, **DRAWS},
    "crop-resize": {"name": "crop_resize", "min_size": 24, "max_size": 32, **DRAWS},
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.5, **DRAWS},
    "mi-combined": _COMBINED,
  },
  "cifar100/iat": {
    "gaussian-noise": {"name": "gaussian_noise", "noise_std": 0.06 / 2, **DRAWS},
    "rotation": {"name": "rotation", "max_degrees": 20.0, **DRAWS},
    "crop-pad": {"name": "crop_pad", "min_size": 22, "max_size": 30, **DRAWS},
    "crop-resize": {"name": "crop_resize", "min_size": 24, "max_size": 32, **DRAWS},
    "mi-ol": {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.6, **DRAWS},
  },
}

DEFENSES: dict[str, Callable] = {
  "gaussian_noise": averaging.gaussian_noise,
  "rotation": averaging.rotation,
  "crop_pad": averaging.crop_pad,
  "crop_resize": averaging.crop_resize,
  "mixup_inference": mixup.mixup_inference,
}


@checks.inputs()
def build(
  policy: Mapping[str, Any], logits_fn: LogitsFn, *, pool: pools.Pool | None = None
) -> Callable[[AnyKey, Images], Probabilities]:
  """Returns `(key, images) -> probabilities`, ready to be evaluated or attacked.

  Args:
    policy: `name`, one of `DEFENSES`, and its keywords; an entry of `PRESETS` for example.
    logits_fn: the model.
    pool: the pool, for "mixup_inference".

  Raises:
    ValueError: if the name or a keyword is unknown, or the pool is missing.
  """
  options = dict(policy)
  name = options.pop("name", None)
  function = registry.lookup(DEFENSES, name, field="defenses.build: name")
  parameters = inspect.signature(function).parameters
  known = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
  for option in options:
    if option not in known:
      raise ValueError(registry.unknown_name(option, known, field=f"defenses.build: {name}"))
  arguments: tuple = ()
  if "pool" in parameters:
    if pool is None:
      raise ValueError(f"defenses.build: {name} needs a pool; pass pool=build_pool(...).")
    arguments = (pool,)

  def defended(key: AnyKey, images: Images) -> Probabilities:
    return function(key, logits_fn, images, *arguments, **options)

  return defended
