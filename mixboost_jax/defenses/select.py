# SPDX-License-Identifier: Apache-2.0
"""From a name and its keywords to a defended predictor."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import checks, registry
from mixboost_jax.array_types import AnyKey, Images, LogitsFn, Probabilities
from mixboost_jax.defenses import baselines, mixup
from mixboost_jax.defenses import pool as pools

DEFENSES: dict[str, Callable] = {
  "gaussian_noise": baselines.gaussian_noise,
  "rotation": baselines.rotation,
  "crop_pad": baselines.crop_pad,
  "crop_resize": baselines.crop_resize,
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
