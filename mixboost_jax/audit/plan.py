# SPDX-License-Identifier: Apache-2.0
"""What an audit runs: the words for defenses and attacks, and how much each may spend."""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from mixboost_jax import attacks, defenses, registry

UNDEFENDED = {"name": "none"}
OWN = "own"
"""Name of the policy of a defense that is not built in; see `OwnDefense`."""
EXTRA: dict[str, dict[str, Any]] = {
  "none": UNDEFENDED,
  "mi-pl": {"name": "mixup_inference", "mode": "pl", "mix_weight": 0.5, "num_draws": 30},
}
"""Known beside the entries of every preset; the paper uses MI-PL to detect, not to classify."""

_OPTIONS = {
  "momentum": "momentum",
  "num_copies": "averaged gradients (VR)",
  "kernel_size": "translation",
  "diversity_prob": "diverse inputs",
  "residual_decay": "skip gradients",
  "interaction_weight": "interaction reduction",
}
"""Keyword of `attacks.transfer` -> what it stands for."""
TRANSFERS = {f"transfer-{name}": name for name in attacks.TRANSFER_PRESETS if name != "pgd"}
"""Word -> preset of `attacks.transfer`."""
ATTACKS = {
  "oblivious": "PGD on the undefended network, labels as it predicts them (Tables 2 and 3)",
  "transfer": "momentum and diverse inputs on a surrogate network",
  **{
    word: "the same with "
    + ", ".join(_OPTIONS[key] for key in attacks.TRANSFER_PRESETS[name] if key in _OPTIONS)
    for word, name in TRANSFERS.items()
  },
  "adaptive": "PGD on the mean gradient over draws (eq. 24)",
  "published": "the averaged perturbation of the published code",
  "eot-ce": "PGD through the whole defense, cross-entropy of its averaged output",
  "eot-margin": "the same with the margin of the log-probabilities",
  "eot-dlr": "the same with the difference-of-logits ratio",
  "apgd-ce": "Auto-PGD through the whole defense, cross-entropy of its averaged output",
  "apgd-t": "the same with the targeted difference-of-logits ratio, over the likeliest classes",
  "square": "black-box random search (Square)",
}
"""Kinds of attacks; a word is `KIND[-STEPS][-targeted][-bpda]`, e.g. `oblivious-50-targeted`.

With `-bpda` the gradient passes through rounding, or through the surrogate of an own defense.
"""
SHARED = ("oblivious", "transfer", *TRANSFERS)
"""Kinds that never look at the defense: their images are made once and shown to every defense."""
FIGURES = {
  "lambda": "what mixing changes against the mix ratio (Fig. 2)",
  "roc": "telling adversarial from clean pictures (Fig. 3a)",
  "tradeoff": "accuracy under attack against clean accuracy over a grid of strengths (Fig. 3b)",
  "samples": "accuracy against the number of adaptive samples (Fig. 4)",
  "detectors": "ML-LOO, rank and MI-PL side by side, under attacks that know them and that do not",
}
"""Measured on demand; numbers of the figures of Pang et al. 2020, arXiv:1909.11515."""
_TARGETED = ("oblivious", "adaptive", "eot-ce", "eot-margin", "eot-dlr")
_WITHOUT_TWIN = ("transfer", *TRANSFERS, "published", "square")
_WORD = re.compile(r"^(?P<kind>.+?)(?:-(?P<steps>\d+))?(?P<targeted>-targeted)?(?P<bpda>-bpda)?$")


@dataclasses.dataclass(frozen=True)
class Attack:
  """One attack, by its word. With `steps` None it takes as many as planned."""

  word: str
  kind: str
  steps: int | None
  targeted: bool
  bpda: bool = False


class OwnDefense(NamedTuple):
  """A defense that is not built in, where `predict` alone does not say enough.

  ```python
  own = audit.OwnDefense(predict=lambda x: jax.nn.softmax(logits_fn(denoise(x))),
                         surrogate=lambda x: jax.nn.softmax(logits_fn(x)))
  audit.audit(logits_fn, (images, labels), {"denoised": own})
  ```
  """

  predict: Callable[..., Any]
  """`images[N, H, W, C] -> probabilities[N, K]`, or for a random defense `(keys[N], images) ->
  probabilities` with one key per picture (`jax.vmap(draw)(keys, images)`), or an
  `attacks.Randomized`. It is compiled, so every draw must come from the keys."""
  surrogate: Callable[..., Any] | None = None
  """A differentiable stand-in of the same kind: the gradient of the attacks marked `-bpda`, which
  follow where that of `predict` misleads. None: `predict` with rounding as the identity."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much the attacks may spend, and how the defended predictions are scored.

  Attributes:
    epsilon: radius of the ball, in pixel units of [0, 1].
    norm: "linf" or "l2"; step sizes are lengths in the same norm.
    step_size: of the oblivious, transfer and adaptive attacks.
    num_steps: of these, where the word gives none.
    eot_step_size: of the attacks through the defense.
    eot_steps: of these, where the word gives none; also of Auto-PGD on a random defense.
    apgd_steps: of Auto-PGD where nothing is random, so that a step takes one draw.
    num_targets: classes of apgd-t on a random defense; all (at most 9) elsewhere.
    samples: draws of the defense per gradient (eot), of the pool per step (adaptive).
    restarts: independent starts of the attacks through the defense (eot, apgd).
    num_queries: of Square, where the word gives none.
    redraws: independent draws of the whole defense that score each image.
    survivors_only: an image that an attack broke in every re-draw is left alone by later attacks.
      An attack's number is then the accuracy after it and all before it.
  """

  epsilon: float = 8 / 255
  norm: str = "linf"
  step_size: float = 2 / 255
  num_steps: int = 10
  eot_step_size: float = 1 / 255
  eot_steps: int = 50
  apgd_steps: int = 100
  num_targets: int = 3
  samples: int = 15
  restarts: int = 1
  num_queries: int = 1000
  redraws: int = 3
  survivors_only: bool = False

  def __post_init__(self):
    if self.norm not in attacks.NORMS:
      raise ValueError(f"audit: norm must be one of {', '.join(attacks.NORMS)}, got {self.norm!r}.")
    most, end = (1.0, "1]") if self.norm == "linf" else (math.inf, "inf)")
    for name in ("epsilon", "step_size", "eot_step_size"):
      value = getattr(self, name)
      if not 0 < value <= most or value == math.inf:
        raise ValueError(f"audit: {name} must be in (0, {end}, got {value}.")
    counts = [field.name for field in dataclasses.fields(self) if field.type in (int, "int")]
    for name in counts:
      if getattr(self, name) < 1:
        raise ValueError(f"audit: {name} must be >= 1, got {getattr(self, name)}.")

  def steps(self, attack: Attack) -> tuple[int, float]:
    """Returns number and size of the steps of PGD, outside or through a defense."""
    if attack.kind.startswith("eot-"):
      return attack.steps or self.eot_steps, self.eot_step_size
    return attack.steps or self.num_steps, self.step_size

  def reach(self, attack: Attack) -> float | None:
    """Returns how far the steps may lead; None if the attack chooses their sizes itself."""
    if attack.kind in ("apgd-ce", "apgd-t", "square"):
      return None
    count, size = self.steps(attack)
    return count * size


def parse_attack(word: str) -> Attack:
  """Reads `KIND[-STEPS][-targeted][-bpda]`."""
  match = _WORD.match(word)
  kind = match["kind"] if match else word
  if match is None or kind not in ATTACKS:
    raise ValueError(registry.unknown_name(kind, ATTACKS, field="audit: attack"))
  steps = int(match["steps"]) if match["steps"] else None
  if steps == 0 or (match["targeted"] and kind not in _TARGETED):
    raise ValueError(
      f"audit: attack {word!r}: expected at least one step, and -targeted only with "
      f"{', '.join(_TARGETED)}."
    )
  if match["bpda"] and kind in _WITHOUT_TWIN:
    raise ValueError(f"audit: attack {word!r}: -bpda is not for {', '.join(_WITHOUT_TWIN)}.")
  return Attack(word, kind, steps, bool(match["targeted"]), bool(match["bpda"]))


def with_twins(chosen: Sequence[Attack]) -> list[Attack]:
  """Adds to every attack that follows a gradient the same one with `-bpda`."""
  twins = [f"{one.word}-bpda" for one in chosen if not one.bpda and one.kind not in _WITHOUT_TWIN]
  known = {one.word for one in chosen}
  return [*chosen, *(parse_attack(word) for word in twins if word not in known)]


def policy_from(defense: Mapping[str, Any] | Callable[..., Any] | OwnDefense) -> dict[str, Any]:
  """Returns the policy of a defense as `audit` takes it."""
  if isinstance(defense, Mapping):
    return dict(defense)
  own = defense if isinstance(defense, OwnDefense) else OwnDefense(defense)
  return {"name": OWN, "predict": own.predict, "surrogate": own.surrogate}


def policy_of(word: str, *, preset: str) -> dict[str, Any]:
  """Returns the policy of a word: `none`, `mi-pl`, an entry of the preset, or `PRESET:ENTRY`."""
  source, _, entry = word.rpartition(":")
  table = registry.lookup(defenses.PRESETS, source or preset, field="audit: preset")
  return dict(registry.lookup({**EXTRA, **table}, entry, field=f"audit: {source or preset}"))


def applies(attack: Attack, policy: Mapping[str, Any], *, norm: str) -> bool:
  """Returns whether an attack makes sense against a defense."""
  return attack.kind != "published" or (policy["name"] == "mixup_inference" and norm == "linf")


def words(text: str) -> tuple[str, ...]:
  """Splits `a,b,c`."""
  return tuple(word.strip() for word in text.split(",") if word.strip())


def attacks_problem(text: str) -> str | None:
  """Returns what is wrong with a list of attacks, or None: a check for `settings.resolve_runs`."""
  try:
    parsed = [parse_attack(word) for word in words(text)]
  except ValueError as error:
    return str(error)
  return None if parsed else f"expected words such as oblivious-10,eot-ce, got {text!r}"


def defenses_problem(text: str) -> str | None:
  """Returns what is wrong with a list of defenses whatever the preset, or None."""
  known = {*EXTRA, *(entry for table in defenses.PRESETS.values() for entry in table)}
  for word in words(text):
    source, _, entry = word.rpartition(":")
    if problem := preset_problem(source) or _unknown([entry], known, "defense"):
      return problem
  return None if words(text) else f"expected words such as none,mi-ol, got {text!r}"


def preset_problem(name: str) -> str | None:
  """Returns what is wrong with the name of a preset ("" is none), or None."""
  return _unknown([name] if name else [], defenses.PRESETS, "preset")


def figures_problem(text: str) -> str | None:
  """Returns what is wrong with a list of figures, or None."""
  return _unknown(words(text), FIGURES, "figure")


def _unknown(chosen: Sequence[str], known: Collection[str], field: str) -> str | None:
  problems = (registry.unknown_name(one, known, field=field) for one in chosen if one not in known)
  return next(problems, None)
