# SPDX-License-Identifier: Apache-2.0
"""How names and numbers of a results file are written for a person."""

import math

METRICS = {
  "error": "Error",
  "clean_error": "Error",
  "nll": "Negative log-likelihood",
  "ece": "Expected calibration error",
  "rms_calibration_error": "RMS calibration error",
  "rms_calibration_error_exact": "RMS calibration error, all bins",
  "adaptive_ece": "Expected calibration error, equal mass",
  "mad_calibration_error": "Mean absolute calibration error",
  "rms_calibration_error_cell": "RMS calibration error, per severity",
  "aurra": "AURRA",
  "brier": "Brier score",
  "audit/auc/mi-pl": "Detection AUC, MI-PL",
  "audit/auc/confidence": "Detection AUC, confidence alone",
  "temperature": "Temperature",
  "mce": "mCE",
  "mce_alexnet": "mCE, AlexNet = 100",
  "relative_mce": "Relative mCE",
  "relative_mce_alexnet": "Relative mCE, AlexNet = 100",
  "mfr": "mFR",
  "mfr_alexnet": "mFR, AlexNet = 100 (provisional)",
  "mt5d": "mT5D",
  "known_per_foreign": "Known pictures per foreign one",
  "interaction_proxy": "Interactions: M(0.2, 0.2, 0.8)",
  "interaction_low": "Interactions: J of low orders (m ≤ 0.2 n)",
  "interaction_middle": "Interactions: J of middle orders",
  "interaction_high": "Interactions: J of high orders (m ≥ 0.8 n)",
  "interaction_attack_reached": "Interactions: share of pictures that the attack for ΔJ reached",
  "interaction_evaluations": "Interactions: network evaluations",
}
PARTS_OF_METRICS = {
  "error": "Error",
  "stress": "Prediction-change stress",
  "influence_size": "Mean size of influence",
  "influence_norm": "Norm of the gradient",
  "influence_cosine": "Mean size of the cosine between gradients",
  "flip_rate": "Flip rate",
  "top5_distance": "Top-5 distance",
}
"""First words of `NAME:MEMBER`, one corruption, sequence or kind of point of a list."""
SCORES = {"msp": "maximum softmax", "max_logit": "maximum logit", "energy": "energy"}
DETECTION = {
  "auroc": "AUROC",
  "aupr": "AUPR",
  "aupr_id": "AUPR, known pictures positive",
  "fpr95": "FPR at 95 % TPR",
  "fpr95_oe": "FPR at 95 % recall of foreign pictures",
}
DATASETS = {
  "shapes": "Shapes",
  "shapes-neutral": "Shapes, neutral texture",
  "shapes-conflicting": "Shapes, conflicting texture",
  "cifar10": "CIFAR-10",
  "cifar100": "CIFAR-100",
  "arrays": "Given pictures",
}
WORDS = {
  "erm": "ERM",
  "mixboost": "MixBoost",
  "boost": "Boost",
  "interaction": "Interaction loss",
  "baseline": "Baseline",
  "cutout": "Cutout",
  "mixup": "Mixup",
  "cutmix": "CutMix",
  "augmix": "AugMix",
  "pixmix": "PixMix",
  "autoaugment": "AutoAugment",
  "trivial": "TrivialAugment",
  "cifar10": "CIFAR-10",
  "cifar100": "CIFAR-100",
  "jpeg": "JPEG",
  "at": "AT",
  "iat": "IAT",
  "trades": "TRADES",
}
CURVES = {
  "loss": "Loss",
  "clean_error": "Error (%)",
  "error": "Error (%)",
  "nll": "Negative log-likelihood (nats)",
  "learning_rate": "Learning rate",
  "accuracy": "Accuracy",
}
PARTS = {"train": "training", "validation": "validation", "test": "test"}
ARROWS = {"lower": "↓", "higher": "↑", "none": ""}
MINUS = "\u2212"
NO_BREAK = "\u00a0"
_DECIMALS = {"%": 2, "nats": 3}


def metric(name: str) -> str:
  """Returns the title of a metric."""
  head, _, member = name.partition(":")
  if member:
    member, _, levels = member.partition("_severity_")
    title = f"{PARTS_OF_METRICS.get(head, head)}, {member.replace('_', ' ')}"
    return f"{title} at severity {levels.replace('_', ', ')}" if levels else title
  for score, words in SCORES.items():
    start = name.removesuffix(f"_{score}")
    if start != name and start in DETECTION:
      return f"{DETECTION[start]}, {words}"
  head, _, levels = name.partition("_severity_")
  if levels:
    title = "Mean error" if head == "mean_error" else metric(head)
    return f"{title} at severity {levels.replace('_', ', ')}"
  if name.startswith("audit/") and name not in METRICS:
    return "accuracy under attack"
  return METRICS.get(name, name.replace("_", " "))


def dataset(name: str, split: str = "test") -> str:
  """Returns the title of a set of pictures; the test split goes without saying."""
  title = DATASETS.get(name) or _derived(name)
  return title if split == "test" else f"{title}, {split} split"


SUFFIXES = {
  "-occluded": ", 30 % painted over",
  "-released": ", published files",
  "-c": "-C",
  "-c_extra": "-C, extra corruptions",
  "-c_bar": "-C̄",
  "-p": "-P",
  "-p_extra": "-P, extra sequences",
  "-p_code": "-P, list of the authors' code",
  "-r": "-R",
  "-pgd": " under PGD-20, L∞ 2/255",
  "-pgd-10": " under PGD-10, L∞ 8/255",
  "-pgd-50": " under PGD-50, L∞ 8/255",
  "-pgd-200": " under PGD-200, L∞ 8/255",
  "-pgd-l2-0.25-10": " under PGD-10, L2 0.25",
  "-pgd-l2-0.25-100": " under PGD-100, L2 0.25",
  "-pgd-l2-0.5-10": " under PGD-10, L2 0.5",
  "-pgd-l2-0.5-100": " under PGD-100, L2 0.5",
  "-stress": ", spheres around pictures, L2",
  "-stress-linf": ", spheres around pictures, L∞",
  "-autoattack": " under AutoAttack, L∞ 8/255",
  "-autoattack-l2": " under AutoAttack, L2 0.5",
  "-temperature": ", temperature scaled",
  "-ood": " against all foreign sets",
}
"""Ends of the names of derived sets, and what a report writes for them."""


def _derived(name: str) -> str:
  for suffix in sorted(SUFFIXES, key=len, reverse=True):
    if name.endswith(suffix) and len(name) > len(suffix):
      return f"{dataset(name.removesuffix(suffix))}{SUFFIXES[suffix]}"
  known, _, foreign = name.partition("-ood-")
  if foreign:
    return f"{dataset(known)} against {foreign.replace('_', ' ')}"
  plain, bracket, note = name.partition(" (")
  return f"{dataset(plain)}{bracket}{note}" if bracket else name


def run(name: str) -> str:
  """Returns the title of a run: known words in their usual spelling."""
  words = [WORDS.get(word, word) for word in name.replace("+", "_+_").split("_") if word]
  return " ".join(words) or name


def number(value: float | None, unit: str = "", *, sign: bool = False) -> str:
  """Writes a number with the decimals of its unit."""
  if value is None or not math.isfinite(value):
    return "undefined"
  decimals = _DECIMALS.get(unit, 3)
  text = f"{abs(value):,.{decimals}f}"
  is_zero = float(text.replace(",", "")) == 0
  return text if is_zero else (MINUS if value < 0 else "+" if sign else "") + text


def interval(low: float | None, high: float | None, unit: str = "", *, sign: bool = False) -> str:
  """Writes an interval, or nothing."""
  if low is None or high is None:
    return ""
  return f"[{number(low, unit, sign=sign)}, {number(high, unit, sign=sign)}]"


def duration(seconds: float) -> str:
  """Writes a wall time."""
  if seconds < 60:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes} min"


def percent(level: float) -> str:
  """Writes a confidence level: 0.95 becomes "95 %"."""
  return f"{100 * level:g}{NO_BREAK}%"


def listing(words: list[str]) -> str:
  """Writes "a", "a and b", "a, b and c"."""
  return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
