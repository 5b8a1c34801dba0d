# SPDX-License-Identifier: Apache-2.0
"""Robust image classification by boosted data augmentation, in JAX.

The sub-packages are imported on first use, so `import mixboost_jax` is quick and a user who wants
one pure function pays for that function only.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
  "__version__",
  "analysis",
  "attacks",
  "audit",
  "augment",
  "corruptions",
  "data",
  "defenses",
  "evaluate",
  "gan",
  "image",
  "interactions",
  "losses",
  "masks",
  "metrics",
  "models",
  "report",
  "runtime",
  "train",
]

if TYPE_CHECKING:
  from mixboost_jax import (
    analysis,
    attacks,
    audit,
    augment,
    corruptions,
    data,
    defenses,
    evaluate,
    gan,
    image,
    interactions,
    losses,
    masks,
    metrics,
    models,
    report,
    runtime,
    train,
  )


def __getattr__(name: str) -> Any:
  if name in __all__:
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return __all__
