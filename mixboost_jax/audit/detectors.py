# SPDX-License-Identifier: Apache-2.0
"""Three detectors side by side, under an attack that does not know them and one that does.

ML-LOO (dispersion of leave-one-out attributions over several layers), the rank of the picture
(SVD), and MI-PL. One half of the pictures fits ML-LOO's regression; areas under the ROC curve are
of the other half. The oblivious attack is PGD on the bare network; the aware one maximises
min(margin, 1) - score / (spread of the score on clean pictures), for each detector on its own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import attacks, defenses, keys
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.audit.plan import Plan
from mixboost_jax.evaluate import Examples

NAMES = ("ml-loo", "rank", "mi-pl")
MARGIN = 1.0
"""Of the wrong class over the true one, beyond which the aware attack only hides."""
GRID, NUM_DRAWS = 8, 10
"""Cells per side that ML-LOO leaves out (fewer on smaller pictures); draws of MI-PL."""

Score = Callable[[jax.Array], jax.Array]
"""`images -> score[N]`, large for adversarial pictures."""


class Scored(NamedTuple):
  """Scores of one detector on the same pictures, clean and attacked."""

  clean: np.ndarray
  adversarial: np.ndarray
  fooled: float
  """Share of the attacked pictures that the network gets wrong."""


def scored(
  logits_fn: LogitsFn,
  pictures: Examples,
  *,
  pool: defenses.Pool,
  plan: Plan,
  layers_fn: Callable | None,
  batch_size: int,
  seed: int,
) -> Mapping[tuple[str, str], Scored]:
  """Returns (detector, attack) -> scores; the attacks are "oblivious" and "aware".

  Raises:
    ValueError: if there are fewer than 4 pictures.
  """
  count = len(pictures)
  if count < 4:
    raise ValueError(
      f"audit: detectors need at least 4 pictures, two of them to fit ML-LOO, got {count}; raise "
      "config.audit.figure_images."
    )
  images = np.asarray(pictures.images)
  images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
  key = keys.stream_key(keys.root_key(seed), keys.Stream.DEFEND)
  each = keys.example_keys(keys.root_key(seed), keys.Stream.ATTACK, jnp.asarray(pictures.ids))
  labels = np.asarray(pictures.labels)

  def over(function: Callable, *arrays: Any) -> np.ndarray:
    run = jax.jit(function)
    parts = range(0, count, batch_size)
    return np.concatenate([run(*(one[i : i + batch_size] for one in arrays)) for i in parts])

  def attack(predictor: Callable, loss: Any) -> np.ndarray:
    budget = {"epsilon": plan.epsilon, "norm": plan.norm, "step_size": plan.step_size}

    def craft(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
      return attacks.pgd(key, predictor, x, y, loss=loss, num_steps=plan.num_steps, **budget)

    return over(craft, each, images, labels)

  oblivious = attack(logits_fn, "ce")
  features = _features(logits_fn, layers_fn, images)
  first = slice(0, count // 2)
  fitted = np.concatenate([over(features, one)[first] for one in (images, oblivious)])
  weights = defenses.fit_detector(
    fitted.astype(np.float64), np.repeat([False, True], len(fitted) // 2)
  )
  scores = _scores(key, logits_fn, features, weights, pool)
  found, rest = {}, slice(count // 2, None)
  is_wrong = lambda x, y: attacks.fooled(logits_fn(x), y)  # noqa: E731
  for name, score in scores.items():
    clean = over(score, images)
    spread = max(float(clean.std()), 1e-6)
    aware = attack(_with_score(logits_fn, score), _hiding(spread))
    for kind, attacked in (("oblivious", oblivious), ("aware", aware)):
      wrong = over(is_wrong, attacked, labels)
      adversarial = over(score, attacked)[rest]
      found[name, kind] = Scored(clean[rest], adversarial, float(wrong[rest].mean()))
  return found


def _features(logits_fn: LogitsFn, layers_fn: Callable | None, images: np.ndarray) -> Callable:
  grid = min(GRID, *images.shape[1:3])
  return lambda x: defenses.dispersions(logits_fn, x, layers_fn=layers_fn, grid=grid)


def _scores(
  key: jax.Array,
  logits_fn: LogitsFn,
  features: Callable,
  fitted: tuple[np.ndarray, float],
  pool: defenses.Pool,
) -> dict[str, Score]:
  weights, offset = jnp.asarray(fitted[0], jnp.float32), fitted[1]

  def same_label(images: jax.Array) -> jax.Array:
    options = {"mode": "pl", "mix_weight": 0.5, "num_draws": NUM_DRAWS}
    mixed = defenses.mixup_inference(key, logits_fn, images, pool, has_gradient=True, **options)
    return defenses.detection_score(jax.nn.softmax(logits_fn(images)), mixed)

  every = (
    lambda images: features(images) @ weights + offset,
    lambda images: defenses.rank_score(logits_fn, images),
    same_label,
  )
  return dict(zip(NAMES, every, strict=True))


def _with_score(logits_fn: LogitsFn, score: Score) -> LogitsFn:
  """Returns the logits with the score as a last column, which `_hiding` takes off again."""
  return lambda images: jnp.concatenate([logits_fn(images), score(images)[:, None]], axis=1)


def _hiding(spread: float) -> Callable:
  def loss(both: jax.Array, labels: jax.Array) -> jax.Array:
    margin = attacks.OBJECTIVES["margin"](both[:, :-1], labels)
    return jnp.minimum(margin, MARGIN) - both[:, -1] / spread

  return loss
