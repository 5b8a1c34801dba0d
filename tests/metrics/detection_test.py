# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from mixboost_jax import defenses, metrics


@pytest.fixture(params=["smooth", "tied", "on the host"])
def scores(request, key):
  key_in, key_out = jax.random.split(key)
  known = 1.0 + jax.random.normal(key_in, (500,))
  foreign = jax.random.normal(key_out, (100,))
  if request.param == "smooth":
    return known, foreign
  tied = jnp.round(2 * known), jnp.round(2 * foreign)
  return tied if request.param == "tied" else tuple(np.asarray(s, np.float64) for s in tied)


def stacked(scores, positive):
  known, foreign = (np.asarray(s, np.float64) for s in scores)
  if positive == "id":
    return np.r_[np.ones(len(known)), np.zeros(len(foreign))], np.r_[known, foreign]
  return np.r_[np.zeros(len(known)), np.ones(len(foreign))], np.r_[-known, -foreign]


def test_auroc_against_scikit_learn(scores):
  want = sklearn.metrics.roc_auc_score(*stacked(scores, "id"))
  np.testing.assert_allclose(metrics.auroc(*scores), want, rtol=1e-5)


@pytest.mark.parametrize("positive", ["id", "ood"])
def test_aupr_against_scikit_learn(scores, positive):
  want = sklearn.metrics.average_precision_score(*stacked(scores, positive))
  np.testing.assert_allclose(metrics.aupr(*scores, positive=positive), want, rtol=1e-5)


@pytest.mark.parametrize("positive", ["id", "ood"])
@pytest.mark.parametrize("tpr", [0.5, 0.95, 1.0])
def test_fpr_against_the_roc_curve(scores, positive, tpr):
  truth, values = stacked(scores, positive)
  false, true, _ = sklearn.metrics.roc_curve(truth, values, drop_intermediate=False)
  false, true = false[1:], true[1:]  # without the threshold that nothing reaches
  gap = np.abs(true - tpr).min()
  # The largest recall that is as close, and there the highest threshold, that is the lowest rate.
  recall = true[np.abs(true - tpr) <= gap + 1e-12].max()
  want = false[true == recall].min()
  value = metrics.fpr_at_tpr(*scores, tpr=tpr, positive=positive)
  np.testing.assert_allclose(value, want, rtol=1e-5)


def test_fpr_by_hand_differs_between_the_conventions():
  known, foreign = jnp.arange(1.0, 21.0), jnp.array([0.5, 1.5, 2.5, 15.5])
  # 19 of 20 known ones (95 %) score >= 2; so do 2 of 4 foreign ones.
  np.testing.assert_allclose(metrics.fpr_at_tpr(known, foreign), 0.5)
  # Recall 4/4 is closest to 95 % of the foreign ones: scores <= 15.5 are flagged, 15 of 20 known.
  np.testing.assert_allclose(metrics.fpr_at_tpr(known, foreign, positive="ood"), 0.75)


def test_constant_scores_tell_nothing():
  known, foreign = jnp.zeros(50), jnp.zeros(10)
  np.testing.assert_allclose(metrics.auroc(known, foreign), 0.5)
  np.testing.assert_allclose(metrics.aupr(known, foreign), 10 / 60, rtol=1e-6)
  np.testing.assert_allclose(metrics.fpr_at_tpr(known, foreign), 1.0)


def test_perfect_scores():
  known, foreign = jnp.arange(5.0) + 1, -jnp.arange(3.0)
  np.testing.assert_allclose(metrics.auroc(known, foreign), 1.0)
  np.testing.assert_allclose(metrics.aupr(known, foreign), 1.0)
  for positive in ("id", "ood"):
    np.testing.assert_allclose(metrics.fpr_at_tpr(known, foreign, positive=positive), 0.0)


def test_scores_of_logits(key):
  logits = 4 * jax.random.normal(key, (9, 5))
  z = np.asarray(logits, np.float64)
  np.testing.assert_allclose(
    metrics.max_softmax(logits), scipy.special.softmax(z, 1).max(1), rtol=1e-5
  )
  np.testing.assert_allclose(metrics.max_logit(logits), z.max(1), rtol=1e-6)
  want = 2 * scipy.special.logsumexp(z / 2, axis=1)
  np.testing.assert_allclose(metrics.negative_energy(logits, temperature=2.0), want, rtol=1e-5)
  for function in metrics.OOD_SCORES.values():
    assert (function(logits + 3 * jnp.eye(9, 5) * logits) >= 0).shape == (9,)


@pytest.mark.parametrize("function", [metrics.aupr, metrics.fpr_at_tpr])
def test_unknown_convention(function):
  with pytest.raises(ValueError, match="positive must be 'id' or 'ood', got 'both'"):
    function(jnp.ones(3), jnp.ones(3), positive="both")


def test_tpr_out_of_range():
  with pytest.raises(ValueError, match=r"tpr must be in \(0, 1\], got 95"):
    metrics.fpr_at_tpr(jnp.ones(3), jnp.ones(3), tpr=95.0)


def test_jit_gives_the_same(scores):
  for function in (metrics.auroc, metrics.aupr, metrics.fpr_at_tpr):
    np.testing.assert_allclose(jax.jit(function)(*scores), function(*scores), rtol=1e-6)


@pytest.mark.parametrize("function", [metrics.auroc, metrics.aupr, metrics.fpr_at_tpr])
def test_nan_among_the_scores_makes_the_result_nan(function):
  good, broken = jnp.array([0.1, 0.2]), jnp.array([0.5, jnp.nan])
  assert jnp.isfinite(function(good, good))
  assert jnp.isnan(function(good, broken))
  assert jnp.isnan(function(broken, good))


@pytest.mark.parametrize("function", [metrics.auroc, metrics.aupr, metrics.fpr_at_tpr])
def test_the_order_of_ties_does_not_matter(function):
  rng = np.random.default_rng(0)
  known, foreign = rng.integers(3, 9, 60) / 8, rng.integers(1, 7, 40) / 8
  want = function(jnp.asarray(np.sort(known)), jnp.asarray(np.sort(foreign)))
  assert 0 < want < 1
  mixed = (jnp.asarray(rng.permutation(scores)) for scores in (known, foreign))
  np.testing.assert_allclose(function(*mixed), want, rtol=1e-6)


def test_scores_by_hand():
  plain = jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
  defended = jnp.array([[0.3, 0.6, 0.1], [0.2, 0.75, 0.05]])
  np.testing.assert_allclose(defenses.detection_score(plain, defended), [0.4, 0.05], rtol=1e-5)
  np.testing.assert_allclose(defenses.confidence_gap(plain, defended), [0.1, 0.05], rtol=1e-5)
  moved = defenses.change(plain, defended, jnp.array([1, 1]))
  np.testing.assert_allclose(moved.true_class, [0.4, -0.05], rtol=1e-5)
  np.testing.assert_allclose(moved.predicted_class, [-0.4, -0.05], rtol=1e-5)
  assert defenses.improves_robustness(moved).tolist() == [True, False]


def test_area_equals_scikit_learn_with_ties():
  rng = np.random.default_rng(0)
  clean = np.round(rng.normal(size=80), 1)
  adversarial = np.round(rng.normal(0.7, size=60), 1)
  curve = defenses.roc(clean, adversarial)
  labels = np.r_[np.zeros(80), np.ones(60)]
  scores = np.r_[clean, adversarial]
  assert curve.auc == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores), abs=1e-12)
  for t, fpr, tpr in zip(*curve[:3], strict=True):
    assert fpr == pytest.approx((clean >= t).mean())
    assert tpr == pytest.approx((adversarial >= t).mean())
  assert defenses.roc(clean, clean).auc == pytest.approx(0.5)
  assert defenses.roc(np.zeros(3), np.ones(2)).auc == 1


def test_threshold_holds_the_false_positive_rate():
  scores = np.arange(100.0)
  chosen = defenses.choose_threshold(scores, false_positive_rate=0.05)
  assert chosen == (94.0, 0.05, 100)
  assert defenses.flag(scores, chosen.value).sum() == 5
  ties = defenses.choose_threshold(np.r_[np.zeros(90), np.ones(10)], false_positive_rate=0.05)
  assert ties == (1.0, 0.0, 100)  # flagging one of the ties would flag all ten
  assert defenses.choose_threshold(scores, false_positive_rate=0.0).value == 99
  with pytest.raises(ValueError, match="use at least 1000"):
    defenses.choose_threshold(scores, false_positive_rate=0.001)
  with pytest.raises(ValueError, match=r"rate in \[0, 1\)"):
    defenses.choose_threshold(scores, false_positive_rate=1.0)


def test_gap_stderr():
  gap = defenses.detection_gap(np.array([0.0, 2.0]), np.array([5.0, 5.0, 8.0]))
  assert gap.value == pytest.approx(5)
  assert gap.stderr == pytest.approx((2 / 2 + 3 / 3) ** 0.5)


def test_errors():
  with pytest.raises(ValueError, match="both sets need scores"):
    defenses.roc(np.zeros(0), np.zeros(2))
  with pytest.raises(ValueError, match="finite"):
    defenses.roc(np.array([np.nan]), np.zeros(2))
