# SPDX-License-Identifier: Apache-2.0
"""The curves behind Figs. 2, 3 and 4 of Mixup Inference (Pang et al. 2020, arXiv:1909.11515).

Attacks are PGD on the undefended network with the labels that it predicts, as in the paper, and for
the number of samples the paper's adaptive attack.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import defenses, keys, metrics
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.audit.detectors import Scored, scored
from mixboost_jax.audit.plan import UNDEFENDED, Plan, parse_attack
from mixboost_jax.audit.run import CLEAN, PREFIX, Outcome, Runner, interval_of, place_of
from mixboost_jax.evaluate import Examples, Place, Store, metric
from mixboost_jax.runtime.results import Metric

MIX_WEIGHTS = tuple(round(0.1 * i, 1) for i in range(1, 11))
NUM_SAMPLES = (1, 2, 5, 10, 20)
GRID = (0.5, 1.0, 1.5, 2.0)
"""Factors on the strength of a local transformation."""
OBLIVIOUS = "oblivious-10"
NUM_RESAMPLES = 500

Points = list[dict[str, Any]]


class Figures(NamedTuple):
  """Metrics (areas under the ROC curves) and curves."""

  metrics: tuple[Metric, ...]
  curves: dict[str, Points]


def measure(
  logits_fn: LogitsFn,
  pictures: Examples,
  policies: Mapping[str, Mapping[str, Any]],
  *,
  pool: defenses.Pool,
  plan: Plan,
  figures: Sequence[str],
  batch_size: int,
  seed: int,
  confidence: float,
  mesh: Mesh,
  layers_fn: Callable | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> Figures:
  """Measures what the words of `FIGURES` ask for; arguments as of `audit`.

  `layers_fn`, `images -> outputs of hidden layers`, is for ML-LOO; None: its output layer alone.
  """
  options = {"batch_size": batch_size, "seed": seed, "mesh": mesh, "store": Store(None)}

  def runner(plan: Plan) -> Runner:
    made = Runner(logits_fn, pictures, pool=pool, plan=plan, surrogate_fn=None, **options)
    made.should_stop = should_stop
    return made

  found: tuple[Metric, ...] = ()
  curves: dict[str, Points] = {}
  if not figures:
    return Figures(found, curves)
  attacker = runner(plan)
  if "lambda" in figures or "roc" in figures:
    attacked = _outcomes(attacker, UNDEFENDED, OBLIVIOUS)[OBLIVIOUS].images
    key = keys.stream_key(keys.root_key(seed), keys.Stream.DEFEND)
    both = {"clean": attacker.images, "adversarial": attacked}
    if "lambda" in figures:
      curves |= _lambda_sweep(key, logits_fn, both, pictures.labels, pool)
    if "roc" in figures:
      found, more = _roc(key, logits_fn, both, pool, place_of(pictures, confidence))
      curves |= more
  if "tradeoff" in figures:
    for label, policy in policies.items():
      if policy["name"] != "none":
        curves[f"{PREFIX}/tradeoff/{label}"] = _tradeoff(attacker, policy)
  if "detectors" in figures:
    settings = {"pool": pool, "plan": plan, "layers_fn": layers_fn}
    scores = scored(logits_fn, pictures, **settings, batch_size=batch_size, seed=seed)
    more, areas = _detectors(scores, place_of(pictures, confidence))
    found, curves = (*found, *more), curves | areas
  if "samples" in figures:
    curves |= _num_samples(runner, plan, policies, confidence=confidence)
  return Figures(found, curves)


def _outcomes(runner: Runner, policy: Mapping[str, Any], attack: str) -> dict[str, Outcome]:
  return dict(runner.attack_all(policy, [parse_attack(attack)]))


def _lambda_sweep(
  key: jax.Array,
  logits_fn: LogitsFn,
  both: Mapping[str, np.ndarray],
  labels: np.ndarray,
  pool: defenses.Pool,
) -> dict[str, Points]:
  """Fig. 2: changes of the true and the predicted class's probability, with the ideal lines."""
  curves = {}
  for mode in ("pl", "ol"):
    for kind, images in both.items():
      options = {"mode": mode, "mix_weights": MIX_WEIGHTS, "num_draws": 10}
      given = jnp.asarray(images), jnp.asarray(labels), pool
      swept = defenses.sweep(key, logits_fn, *given, **options)
      points = curves[f"{PREFIX}/lambda/{mode}/{kind}"] = []
      for i, (weight, *row) in enumerate(zip(*swept, strict=True)):
        point = dict(zip(swept._fields[1:], map(float, row), strict=True))
        points.append({"step": i, "mix_weight": float(weight), **point})
        if kind == "clean":
          theory = {"mix_weight": float(weight), "num_classes": pool.num_classes}
          ideal, _ = defenses.ideal_prediction(mode=mode, adversarial=False, **theory)
          points[-1]["ideal"] = ideal - 1
  return curves


def _roc(
  key: jax.Array,
  logits_fn: LogitsFn,
  both: Mapping[str, np.ndarray],
  pool: defenses.Pool,
  place: Place,
) -> tuple[tuple[Metric, ...], dict[str, Points]]:
  """Fig. 3a: the detection score with MI-PL, and the returned confidence without it."""

  @jax.jit
  def score(images: jax.Array) -> dict[str, jax.Array]:
    plain = jax.nn.softmax(logits_fn(images))
    defended = defenses.mixup_inference(
      key, logits_fn, images, pool, mode="pl", mix_weight=0.5, num_draws=10
    )
    return {
      "mi-pl": defenses.detection_score(plain, defended),
      "confidence": 1 - plain.max(axis=-1),
    }

  scores = {kind: jax.device_get(score(jnp.asarray(images))) for kind, images in both.items()}
  found, curves = [], {}
  for name in ("mi-pl", "confidence"):
    clean, adversarial = scores["clean"][name], scores["adversarial"][name]
    curve = defenses.roc(clean, adversarial)
    curves[f"{PREFIX}/roc/{name}"] = _thinned(curve)
    found.append(_auc(name, clean, adversarial, curve.auc, place))
  return tuple(found), curves


def _thinned(curve: defenses.Roc) -> Points:
  """Returns at most 101 points of a curve."""
  kept = np.unique(np.linspace(0, len(curve.thresholds) - 1, 101).round().astype(int))
  rates = curve.false_positive_rate[kept], curve.true_positive_rate[kept]
  return [
    {"step": i, "false_positive_rate": float(false), "true_positive_rate": float(true)}
    for i, (false, true) in enumerate(zip(*rates, strict=True))
  ]


def _detectors(
  scores: Mapping[tuple[str, str], Scored], place: Place
) -> tuple[tuple[Metric, ...], dict[str, Points]]:
  """Areas and curves of each detector under each attack, and how many pictures it still fools."""
  found, curves = [], {}
  for (name, attack), one in scores.items():
    word = f"{name}-{attack}"
    curve = defenses.roc(one.clean, one.adversarial)
    curves[f"{PREFIX}/detectors/{word}"] = _thinned(curve)
    found.append(_auc(word, one.clean, one.adversarial, curve.auc, place))
    count = len(one.clean)
    low, high = metrics.wilson(round(one.fooled * count), count, confidence=place.confidence)
    ends = (min(low, one.fooled), max(high, one.fooled))
    options = {"count": count, "unit": "", "interval": "wilson", "better": "none"}
    found.append(metric(place, f"{PREFIX}/auc/fooled/{word}", one.fooled, ends=ends, **options))
  return tuple(found), curves


def _auc(
  name: str, clean: np.ndarray, adversarial: np.ndarray, value: float, place: Place
) -> Metric:
  """The area with a percentile bootstrap over pictures; a picture takes its attacked self along."""
  generator, count = np.random.default_rng(0), len(clean)
  draws = metrics.resample(count, num_resamples=NUM_RESAMPLES, generator=generator)
  areas = [
    metrics.auroc(np.repeat(adversarial, times), np.repeat(clean, times)) for times in draws.counts
  ]
  low, high = metrics.interval_of(areas, value, confidence=place.confidence)
  ends, name = (min(low, value), max(high, value)), f"{PREFIX}/auc/{name}"
  options = {"count": count, "unit": "", "better": "higher", "interval": "bootstrap"}
  return metric(place, name, value, ends=ends, **options)


def stronger(policy: Mapping[str, Any]) -> list[tuple[float, dict[str, Any]]]:
  """Returns (strength, policy) over the grid of the hyper-parameter of a defense."""
  if policy["name"] == "mixup_inference":
    return [(w, {**policy, "mix_weight": w}) for w in MIX_WEIGHTS[2:9]]
  if policy["name"] in ("gaussian_noise", "rotation"):
    option = "noise_std" if policy["name"] == "gaussian_noise" else "max_degrees"
    return [(f * policy[option], {**policy, option: f * policy[option]}) for f in GRID]
  low, high = policy["min_size"], policy["max_size"]
  shifts = (-8, -4, 0, 32 - high)
  return [(low + s, {**policy, "min_size": low + s, "max_size": high + s}) for s in shifts]


def _tradeoff(runner: Runner, policy: Mapping[str, Any]) -> Points:
  points = []
  for i, (strength, changed) in enumerate(stronger(policy)):
    found = _outcomes(runner, changed, OBLIVIOUS)
    clean, adversarial = (100 * found[word].accuracy for word in (CLEAN, OBLIVIOUS))
    point = {"step": i, "strength": strength, "clean": clean, "adversarial": adversarial}
    points.append(point)
  return points


def _num_samples(
  make: Callable[[Plan], Runner],
  plan: Plan,
  policies: Mapping[str, Mapping[str, Any]],
  *,
  confidence: float,
) -> dict[str, Points]:
  """Fig. 4, for every mixup inference; the bare network is the line to compare with."""
  curves: dict[str, Points] = {}
  chosen = {k: p for k, p in policies.items() if p["name"] == "mixup_inference"}
  if not chosen:
    return curves
  for num in NUM_SAMPLES:
    runner = make(dataclasses.replace(plan, samples=num))
    for label, policy in chosen.items():
      outcome = _outcomes(runner, policy, "adaptive")["adaptive"]
      low, high = interval_of(outcome, confidence=confidence)
      point = {"step": num, "accuracy": 100 * outcome.accuracy, "low": low, "high": high}
      curves.setdefault(f"{PREFIX}/samples/{label}", []).append(point)
  plain = 100 * _outcomes(make(plan), UNDEFENDED, "adaptive")["adaptive"].accuracy
  curves[f"{PREFIX}/samples/none"] = [{"step": num, "accuracy": plain} for num in NUM_SAMPLES]
  return curves
