# SPDX-License-Identifier: Apache-2.0
"""The MixBoost objective.

Symbols (Liu et al., MixBoost, eq. 3-4): y-hat -> `logits`, y-hat_mask -> `masked_logits`,
lambda -> `weight`, P -> softmax over classes. The entropy is *maximised*: what the masked-out
cells add to the output (the high-order part) should not tell the classes apart.
"""

import jax

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, SoftLabels
from mixboost_jax.losses.classification import cross_entropy, entropy


@checks.inputs()
def boost_entropy(
  logits: Logits,
  masked_logits: Logits,
  *,
  align: float = 1.0,
  difference: str = "logits",
) -> PerExample:
  """Returns L_boost, the entropy of `softmax(logits - align * masked_logits)`.

  Paper: Liu et al., MixBoost, eq. 4 (the sum over classes is implicit there).
  Deviation: none with the defaults. `align = 1 / keep_rate` is the aligned difference of Deng et
  al. 2022, arXiv:2111.06236, whose first-order terms cancel; `difference="probabilities"` is the
  other reading of eq. 4.

  Args:
    logits: output on the whole image.
    masked_logits: output on the masked image.
    align: factor of `masked_logits`.
    difference: subtract logits, or softmax probabilities.

  Returns:
    Entropy in nats, in [0, log K]; log K where the two outputs are equal and `align` is 1.
  """
  if difference == "logits":
    return entropy(logits - align * masked_logits)
  if difference == "probabilities":
    return entropy(jax.nn.softmax(logits) - align * jax.nn.softmax(masked_logits))
  raise ValueError(f"difference must be 'logits' or 'probabilities', got {difference!r}.")


@checks.inputs()
def mixboost(
  logits: Logits,
  masked_logits: Logits,
  labels: Labels | SoftLabels,
  *,
  weight: float = 1.0,
  align: float = 1.0,
  difference: str = "logits",
  label_smoothing: float = 0.0,
  stop_gradient_clean: bool = False,
) -> PerExample:
  """Returns `CE(y, logits) - weight * boost_entropy(logits, masked_logits)`.

  Paper: Liu et al., MixBoost, eq. 3.

  Args:
    logits: output on the whole (augmented) image.
    masked_logits: output on its masked view.
    labels: `int[N]`, or soft labels for augmentations that mix labels.
    weight: lambda >= 0.
    align: see `boost_entropy`.
    difference: see `boost_entropy`.
    label_smoothing: of the cross-entropy term.
    stop_gradient_clean: no gradient of the boost term through `logits`.
  """
  boosted = jax.lax.stop_gradient(logits) if stop_gradient_clean else logits
  boost = boost_entropy(boosted, masked_logits, align=align, difference=difference)
  return cross_entropy(logits, labels, label_smoothing=label_smoothing) - weight * boost
