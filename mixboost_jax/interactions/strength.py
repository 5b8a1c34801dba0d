# SPDX-License-Identifier: Apache-2.0
"""What is known of the curve J^(m) of a network over several pictures, with errors.

Symbols (Deng et al. 2022, arXiv:2111.06236): E_x E_ij |I^(m)(i, j | x)| -> `Strength.strength`,
J^(m) -> `Strength.relative`, D^(m) -> `Strength.disentanglement`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mixboost_jax.interactions.features import FEATURES

BIAS_TOLERANCE = 0.025
"""Share of the strength that its estimated bias may have before it is told."""


@dataclasses.dataclass(frozen=True)
class Strength:
  """Averages over pictures and pairs, and how sure they are.

  Attributes:
    orders: the orders m.
    num_players: n.
    per_game: mean of each feature for each game (picture).
    covariance: covariance of the mean over games of all features.
    evaluations: coalitions evaluated, pilot run included.
    num_pairs: pairs drawn, pilot run left out.
    num_contexts: contexts per pair and order.
  """

  orders: tuple[int, ...]
  num_players: int
  per_game: Float[np.ndarray, "X F M"]
  covariance: Float[np.ndarray, "F M F M"]
  evaluations: int
  num_pairs: int
  num_contexts: int

  def feature(self, name: str) -> Float[np.ndarray, " M"]:
    """Mean over games of one of `FEATURES`."""
    return self.per_game[:, FEATURES.index(name)].mean(0)

  def stderr(self, name: str) -> Float[np.ndarray, " M"]:
    """Standard error of `feature`."""
    index = FEATURES.index(name)
    return np.sqrt(np.diag(self.covariance[index, :, index]))

  @property
  def strength(self) -> Float[np.ndarray, " M"]:
    """E_x E_ij |I^(m)|."""
    return self.feature("absolute")

  @property
  def relative(self) -> Float[np.ndarray, " M"]:
    """J^(m): `strength` over its mean over the sampled orders."""
    return self.strength / self.strength.mean()

  @property
  def relative_stderr(self) -> Float[np.ndarray, " M"]:
    """Standard error of J^(m) by linearisation: errors of the orders are correlated."""
    count, mean = len(self.orders), self.strength.mean()
    slope = (np.eye(count) - self.relative[:, None] / count) / mean
    return np.sqrt(np.diag(slope @ self.covariance[0, :, 0] @ slope.T))

  @property
  def relative_stderr_over_games(self) -> Float[np.ndarray, " M"]:
    """Standard error of J^(m) if the pictures are themselves a sample: from their spread.

    It contains the sampling error of pairs and contexts. NaN with a single picture.
    """
    count, mean = len(self.per_game), self.strength.mean()
    curves = self.per_game[:, FEATURES.index("absolute")]
    residual = (curves - self.relative[None] * curves.mean(1, keepdims=True)) / mean
    if count < 2:
      return np.full(len(self.orders), np.nan)
    return np.sqrt((residual**2).sum(0) / (count * (count - 1)))

  @property
  def average(self) -> Float[np.ndarray, " M"]:
    """I_avg^(m) = E_x E_ij I^(m)."""
    return self.feature("mean")

  @property
  def positive_ratio(self) -> Float[np.ndarray, " M"]:
    """P^(m) = E max(I, 0) / E|I| = (1 + E I / E|I|) / 2."""
    return (1 + self.average / self.strength) / 2

  @property
  def disentanglement(self) -> Float[np.ndarray, " M"]:
    """D^(m), mean over pairs of |sum Delta v| / sum |Delta v| over all contexts.

    Few contexts raise the plain ratio; it is corrected as |I| is, and `bias` warns of both.
    """
    return self.feature("consistency")

  @property
  def bias(self) -> Float[np.ndarray, " M"]:
    """Estimate of the bias of `strength` that is left; see `MultiOrder.absolute_bias`."""
    return self.feature("bias")

  @property
  def is_biased(self) -> Bool[np.ndarray, " M"]:
    """Where that bias is not small, nor explained by chance: contexts dominate the pairs there.

    More rounds do not help, more contexts do.
    """
    matters = np.abs(self.bias) > BIAS_TOLERANCE * np.abs(self.strength)
    return matters & (np.abs(self.bias) > 2 * self.stderr("bias"))

  def to_json(self, *, full: bool = False) -> dict[str, Any]:
    """Returns plain numbers and lists for a results file or a figure.

    Args:
      full: also everything that `from_json` needs.
    """
    curves = {
      "strength": self.strength,
      "strength_stderr": self.stderr("absolute"),
      "relative": self.relative,
      "relative_stderr": self.relative_stderr,
      "average": self.average,
      "average_stderr": self.stderr("mean"),
      "positive_ratio": self.positive_ratio,
      "disentanglement": self.disentanglement,
      "bias": self.bias,
      "is_biased": self.is_biased,
      "strength_per_game": self.per_game[:, 0],
    }
    plain: dict[str, Any] = {name: np.asarray(curve).tolist() for name, curve in curves.items()}
    plain.update(
      orders=list(self.orders),
      num_players=self.num_players,
      evaluations=self.evaluations,
      num_pairs=self.num_pairs,
      num_contexts=self.num_contexts,
      num_games=len(self.per_game),
    )
    if full:
      plain.update(per_game=self.per_game.tolist(), covariance=self.covariance.tolist())
    return plain

  @classmethod
  def from_json(cls, plain: Mapping[str, Any]) -> "Strength":
    """Returns the object of `to_json(full=True)`."""
    names = ("num_players", "evaluations", "num_pairs", "num_contexts")
    return cls(
      orders=tuple(plain["orders"]),
      per_game=np.asarray(plain["per_game"], np.float64),
      covariance=np.asarray(plain["covariance"], np.float64),
      **{name: plain[name] for name in names},
    )
