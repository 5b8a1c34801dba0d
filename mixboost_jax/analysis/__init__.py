# SPDX-License-Identifier: Apache-2.0
"""What training data do to a network: stress around pictures, influence of single examples.

Functions of callables and arrays; they know of no network class.
"""

from mixboost_jax.analysis._ekfac import EkFac, LastLayer, fit_ekfac, last_layer
from mixboost_jax.analysis._influence import (
  Factors,
  Problem,
  Products,
  conjugate_gradients,
  curvature_product,
  direct,
  factorise,
  gradients,
  inner_products,
  lissa,
  removal_effects,
  tracin,
)
from mixboost_jax.analysis._stress import (
  Stress,
  prediction_change_stress,
  prediction_changes,
  sphere_directions,
)

__all__ = [
  "EkFac",
  "Factors",
  "LastLayer",
  "Problem",
  "Products",
  "Stress",
  "conjugate_gradients",
  "curvature_product",
  "direct",
  "factorise",
  "fit_ekfac",
  "gradients",
  "inner_products",
  "last_layer",
  "lissa",
  "prediction_change_stress",
  "prediction_changes",
  "removal_effects",
  "sphere_directions",
  "tracin",
]


def __dir__() -> list[str]:
  return __all__
