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


def _mixing(mode: str, **options: float) -> dict[str, Any]:
  return {"name": "mixup_inference", "mode": mode, **options, **DRAWS}


def _local(
  noise: float, degrees: float, pad: tuple[int, int], resize: tuple[int, int]
) -> dict[str, dict[str, Any]]:
  """The rows of Table 4 that average over transformations; noise as printed."""
  (low, high), (small, large) = pad, resize
  return {
    "gaussian-noise": {"name": "gaussian_noise", "noise_std": noise / 2, **DRAWS},
    "rotation": {"name": "rotation", "max_degrees": degrees, **DRAWS},
    "crop-pad": {"name": "crop_pad", "min_size": low, "max_size": high, **DRAWS},
    "crop-resize": {"name": "crop_resize", "min_size": small, "max_size": large, **DRAWS},
  }


_COMBINED = {"mi-combined": _mixing("combined", mix_weight_pl=0.5, mix_weight=0.4, threshold=0.2)}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
  "cifar10/erm": {"mi-ol": _mixing("ol", mix_weight=0.6)},
  "cifar10/mixup": {
    **_local(0.04, 40.0, (16, 24), (22, 30)),
    "mi-ol": _mixing("ol", mix_weight=0.5),
    **_COMBINED,
  },
  "cifar10/at": {"mi-ol": _mixing("ol", mix_weight=0.8)},
  "cifar10/iat": {
    **_local(0.075, 30.0, (20, 28), (20, 28)),
    "mi-ol": _mixing("ol", mix_weight=0.6),
  },
  "cifar100/mixup": {
    **_local(0.025, 20.0, (18, 26), (24, 32)),
    "mi-ol": _mixing("ol", mix_weight=0.5),
    **_COMBINED,
  },
  "cifar100/iat": {
    **_local(0.06, 20.0, (22, 30), (24, 32)),
    "mi-ol": _mixing("ol", mix_weight=0.6),
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

  The policy has a `name`, one of `DEFENSES`, and its keywords: an entry of `PRESETS` for example.

  ```python
  defended = defenses.build(defenses.PRESETS["cifar10/mixup"]["rotation"], logits_fn)
  probabilities = defended(key, images)
  ```
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
