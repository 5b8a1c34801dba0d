# SPDX-License-Identifier: Apache-2.0
"""Losses that encourage or penalise interactions of a range of orders.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 4): v(S) -> the logits on the input that keeps
the cells S; S1 within S2 with |S1| = r1 n, |S2| = r2 n -> `logits_small`, `logits_large`;
Delta v -> `aligned_difference`; L+ -> mode "encourage", L- -> mode "penalize".
"""

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, SoftLabels
from mixboost_jax.losses.classification import cross_entropy, entropy

INTERACTION_PRESETS: dict[str, tuple[str, float, float]] = {
  "high": ("penalize", 0.0, 0.5),
  "mid": ("encourage", 0.3, 0.7),
  "low": ("penalize", 0.7, 1.0),
}
"""Networks of Deng et al. that come to encode mainly high, middle or low orders: (mode, r1, r2)."""


@checks.inputs()
def aligned_difference(
  logits_large: Logits, logits_small: Logits, *, r1: float, r2: float
) -> Logits:
  """Returns `v(S2) - (r2 / r1) v(S1)`; the factor is 1 if `r1` is 0.

  With this factor the first-order terms cancel in expectation, so only interactions remain.
  """
  if not 0 <= r1 < r2 <= 1:
    raise ValueError(f"interaction: expected 0 <= r1 < r2 <= 1, got r1={r1}, r2={r2}.")
  return logits_large - (r2 / r1 if r1 else 1.0) * logits_small


@checks.inputs()
def interaction(
  logits_large: Logits,
  logits_small: Logits,
  labels: Labels | SoftLabels,
  *,
  r1: float,
  r2: float,
  mode: str = "penalize",
) -> PerExample:
  """Returns L+(r1, r2) (encourage) or L-(r1, r2) (penalize) for each example.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 4. L+ is the cross-entropy of the aligned
  difference with the label; L- is minus its entropy, so minimising it raises the entropy.

  Args:
    logits_large: output on the input that keeps the fraction `r2` of the cells.
    logits_small: output on the nested input that keeps `r1`.
    labels: used by "encourage" only.
    r1: smaller keep rate.
    r2: larger keep rate, `0 <= r1 < r2 <= 1`.
    mode: "encourage" or "penalize".
  """
  delta = aligned_difference(logits_large, logits_small, r1=r1, r2=r2)
  if mode == "encourage":
    return cross_entropy(delta, labels)
  if mode == "penalize":
    return -entropy(delta)
  raise ValueError(f"interaction: mode must be 'encourage' or 'penalize', got {mode!r}.")
