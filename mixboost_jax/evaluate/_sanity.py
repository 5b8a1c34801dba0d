# SPDX-License-Identifier: Apache-2.0
"""Does a low error under attack mean a robust network, or an attack that does not work?

Before any adversarial evaluation a few examples answer questions that a sound setting always
answers in the same way. Papers: Athalye et al. 2018, arXiv:1802.00420, Sec. 3.1; Carlini et al.
2019, arXiv:1902.06705.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import attacks, keys
from mixboost_jax.evaluate._examples import Examples, Unit, check_labels, padded_batches
from mixboost_jax.evaluate._kind import Curves
from mixboost_jax.evaluate._session import ApplyFn, Scorer, Session
from mixboost_jax.evaluate._store import VERSION, Store, digest
from mixboost_jax.evaluate._suites import KINDS
from mixboost_jax.runtime import log
from mixboost_jax.runtime.results import Flag

NUM_EXAMPLES = 64
"""Correctly classified examples that are looked at."""
FEWEST = 8
"""With fewer of them nothing is concluded."""
SEARCHED = 512
"""Examples among which these are looked for."""
SMALL, USUAL, HUGE = 2 / 255, 8 / 255, 0.5
NUM_STEPS = 10
NUM_QUERIES = 300
TOLERANCE = 0.05
"""Share of examples by which an accuracy may break an order before it counts."""
REMAINING = 0.1
"""Largest share of examples that may survive the huge radius."""
VANISHING = 1e-7
"""A gradient of the cross-entropy that is smaller than this share of that of the margin (about
1 - p for the label) is rounding error of float32."""
MANY = 0.25
"""Share of examples without such a gradient that is worth a word."""

MASKED_GRADIENTS = (
  "zero_gradients",
  "survives_anything",
  "larger_radius_is_weaker",
  "more_steps_are_weaker",
  "black_box_beats_gradients",
)
"""Flags by which attacks that follow the gradient prove nothing."""


@dataclasses.dataclass(frozen=True)
class Findings:
  """What was measured on the examples; accuracies are shares of them."""

  num_examples: float
  logit_noise: float
  """Largest difference of the logits between two calls."""
  looks_like_probabilities: float
  """1 if all outputs are non-negative and sum to 1."""
  zero_margin_gradients: float
  """Share of examples whose margin has no gradient at all."""
  vanishing_gradients: float
  """Share of the others whose cross-entropy has none that is left."""
  single_step: float
  """Accuracy after one step at the usual radius; NaN where PGD leaves too few to be beaten."""
  small: float
  """Accuracy after PGD at the small, usual and huge radius."""
  usual: float
  huge: float
  square: float
  """Accuracy after a black-box search at the usual radius; NaN as above."""


def needed(units: Sequence[Unit]) -> bool:
  """Returns whether any unit is an attack."""
  return any(KINDS[unit.kind].is_attack for unit in units)


def sanity_flags(
  apply_fn: ApplyFn,
  variables: Any,
  examples: Examples,
  *,
  batch_size: int,
  mesh: Mesh,
  store: Store,
  network: str,
) -> list[Flag]:
  """Returns what is wrong with the outputs and gradients of a network.

  The store keeps the findings under the hash of the network.

  ```python
  from mixboost_jax.runtime import mesh
  examples = evaluate.from_dataset((images, labels), split="test")
  setup = {"batch_size": 8, "mesh": mesh.create(), "store": evaluate.Store(None), "network": "mine"}
  flags = evaluate.sanity_flags(*evaluate.open_up(logits_fn, images.shape), examples, **setup)
  ```

  Raises:
    ValueError: if a label has no column among the outputs.
  """
  scorer = Scorer(apply_fn, batch_size=batch_size, mesh=mesh)
  session = Session(scorer, variables, examples, {})
  check_labels(examples, session.num_classes)
  return check(session, store, network, attacked=True)[0]


def check(
  session: Session, store: Store, network: str, *, attacked: bool
) -> tuple[list[Flag], Curves]:
  """As `sanity_flags`, and the error over the radius of PGD.

  Unless attacks are to be trusted, only the outputs are looked at.
  """
  if not attacked:
    part = session.part(0, min(NUM_EXAMPLES, len(session.examples)))
    (batch,) = padded_batches(part, session.scorer.rounded(len(part)))
    found = judge_outputs(*_outputs(session, session.scorer.place(batch.images), batch.real))
    return found, {}
  part = session.part(0, min(SEARCHED, len(session.examples)))
  name = digest([VERSION, "sanity", network], part.images, part.labels, part.ids)
  kept = store.read(name)
  if kept is not None:
    found = Findings(*(float(value) for value in kept["findings"]))
  else:
    found = examine(session, part)
    if log.is_primary():
      values = np.array(dataclasses.astuple(found), np.float64)
      store.write(name, {"findings": values}, {"unit": "sanity"})
  return judge(found, searched=len(part)), _radii(found, session.examples.dataset)


def _radii(found: Findings, dataset: str) -> Curves:
  """Returns the error after PGD, of examples that were right, over the radius."""
  if found.num_examples < FEWEST:
    return {}
  left = {0.0: 1.0, SMALL: found.small, USUAL: found.usual, HUGE: found.huge}
  points = [
    {"step": i, "epsilon": radius, "error": 100 * (1 - share), "count": round(found.num_examples)}
    for i, (radius, share) in enumerate(left.items())
  ]
  return {f"attack/{dataset}": points}


def _outputs(session: Session, images: jax.Array, real: np.ndarray) -> tuple[float, bool]:
  """Returns how much two calls differ, and whether the outputs look like probabilities."""
  first, second = (
    np.asarray(session.scorer.logits(session.variables, images))[real] for _ in range(2)
  )
  is_sum_one = np.abs(first.sum(axis=1) - 1).max() < 1e-3
  return float(np.abs(first - second).max()), bool(first.min() >= 0 and is_sum_one)


def examine(session: Session, part: Examples) -> Findings:
  """Measures everything on the first correctly classified examples of `part`."""
  scores = session.scorer(session.variables, part)
  places = np.flatnonzero(scores.correct)[:NUM_EXAMPLES]
  if len(places) < FEWEST:
    return Findings(float(len(places)), *9 * [0.0])
  chosen = part.take(places)
  rows = session.scorer.rounded(NUM_EXAMPLES)
  (batch,) = padded_batches(chosen, rows)
  ids, images, labels = session.scorer.place((batch.ids, batch.images, batch.labels))
  arguments = (session.variables, ids, images, labels)
  real, apply_fn = batch.real, session.scorer.apply_fn

  def share(values: Any) -> float:
    is_right, _ = values
    return float(np.asarray(is_right)[real].mean())

  noise, is_probability = _outputs(session, images, real)
  margins, entropies = session.program("gradients", lambda: _gradients(apply_fn))(*arguments)
  flat = np.asarray(margins)[real] == 0
  gone = np.asarray(entropies)[real] < VANISHING * np.asarray(margins)[real]
  step, climb, search = (
    session.program(one, functools.partial(_accuracy, apply_fn, one))
    for one in ("step", "pgd", "square")
  )
  usual, beaten = share(climb(*arguments, USUAL)), [float("nan")] * 2
  if usual > TOLERANCE:  # else no other attack can be better by more than that
    beaten = [share(attack(*arguments, USUAL)) for attack in (step, search)]
  return Findings(
    num_examples=float(real.sum()),
    logit_noise=noise,
    looks_like_probabilities=float(is_probability),
    zero_margin_gradients=float(flat.mean()),
    vanishing_gradients=float((gone & ~flat).mean()),
    single_step=beaten[0],
    small=share(climb(*arguments, SMALL)),
    usual=usual,
    huge=share(climb(*arguments, HUGE)),
    square=beaten[1],
  )


def attacked_by_pgd(
  session: Session, chosen: Examples, *, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns at most `NUM_EXAMPLES` pictures as they are and as the PGD of `examine` leaves them."""
  (batch,) = padded_batches(chosen, session.scorer.rounded(NUM_EXAMPLES))
  ids, images, labels = session.scorer.place((batch.ids, batch.images, batch.labels))
  apply_fn = session.scorer.apply_fn
  climb = session.program("pgd", functools.partial(_accuracy, apply_fn, "pgd"))
  _, found = climb(session.variables, ids, images, labels, epsilon)
  return batch.images[batch.real], np.asarray(found)[batch.real]


def _gradients(apply_fn: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Returns the largest entry of the gradient of margin and cross-entropy per example."""

  def largest(variables: Any, ids: Any, images: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
    del ids

    def total(x: jax.Array, loss: str) -> jax.Array:
      return attacks.OBJECTIVES[loss](apply_fn(variables, x), labels).sum()

    found = (jax.grad(functools.partial(total, loss=loss))(images) for loss in ("margin", "ce"))
    margin, entropy = (jnp.abs(one).max(axis=(1, 2, 3)) for one in found)
    return margin, entropy

  return jax.jit(largest)


def _accuracy(
  apply_fn: Callable[..., jax.Array], name: str
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Returns which examples one attack leaves right, and its pictures, for any radius."""

  def remaining(
    variables: Any, ids: Any, images: Any, labels: Any, epsilon: Any
  ) -> tuple[jax.Array, jax.Array]:
    each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, ids, epoch=1)

    def logits_fn(x: jax.Array) -> jax.Array:
      return apply_fn(variables, x)

    if name == "square":
      found = attacks.square(
        each, logits_fn, images, labels, epsilon=epsilon, num_queries=NUM_QUERIES
      )
    elif name == "step":
      found = attacks.fgsm(each, logits_fn, images, labels, epsilon=epsilon)
    else:
      step = 2.5 * epsilon / NUM_STEPS
      found = attacks.pgd(
        each, logits_fn, images, labels, epsilon=epsilon, step_size=step, num_steps=NUM_STEPS
      )
    return logits_fn(found).argmax(axis=-1) == labels, found

  return jax.jit(remaining)


def judge(found: Findings, *, searched: int = SEARCHED) -> list[Flag]:
  """Turns findings on the right ones among `searched` examples into flags, red ones first."""
  if found.num_examples < FEWEST:
    remedy = "Check the checkpoint, the normalisation and the labels."
    if searched < SEARCHED:
      remedy = f"Evaluate more examples ({SEARCHED} are looked at), or check the checkpoint."
    return [
      Flag(
        "too_few_correct",
        "amber",
        f"Attacks were not checked: the network is right on {found.num_examples:.0f} of the first "
        f"{searched} examples, fewer than {FEWEST}.",
        remedy,
      )
    ]
  raised = judge_outputs(found.logit_noise, bool(found.looks_like_probabilities))
  raised += [Flag(*rest) for is_raised, *rest in _questions(found) if is_raised]
  return sorted(raised, key=lambda flag: flag.level != "red")


def judge_outputs(noise: float, is_probability: bool) -> list[Flag]:
  """Turns what `_outputs` returns into flags."""
  random = Flag(
    "random_logits",
    "red",
    f"Two calls on the same pictures differ by up to {noise:.2g}: the network is random, and "
    "attacks that need the same answer twice fail.",
    "Switch dropout off, fix the key, or attack the expectation (attacks.expectation).",
  )
  probabilities = Flag(
    "probabilities",
    "red",
    "The outputs are probabilities, not logits: a second softmax flattens confidence and loss.",
    "Return logits, or wrap the function in attacks.from_probabilities.",
  )
  return [*([random] if noise > 0 else []), *([probabilities] if is_probability else [])]


def _questions(found: Findings) -> list[tuple[bool, str, str, str, str]]:
  def percent(share: float) -> str:
    return f"{100 * share:.0f} %"

  return [
    (
      found.zero_margin_gradients > TOLERANCE,
      "zero_gradients",
      "red",
      f"The gradient is exactly zero for {percent(found.zero_margin_gradients)} of the examples: "
      "something (rounding, a threshold) hides it.",
      "Replace its gradient (attacks.bpda), or trust black-box attacks only.",
    ),
    (
      found.vanishing_gradients > MANY,
      "vanishing_gradients",
      "amber",
      f"The gradient of the cross-entropy is rounded away for {percent(found.vanishing_gradients)} "
      "of the examples: the network is too confident for this loss.",
      "Use loss='margin' or 'dlr', or AutoAttack.",
    ),
    (
      found.huge > REMAINING,
      "survives_anything",
      "red",
      f"{percent(found.huge)} of the examples survive a radius of {HUGE:g}, at which every picture "
      "can be turned to plain grey.",
      "The attack does not work on this network; no robust accuracy here can be believed.",
    ),
    (
      found.usual > found.small + TOLERANCE,
      "larger_radius_is_weaker",
      "red",
      f"PGD leaves {percent(found.usual)} at 8/255 but {percent(found.small)} at 2/255.",
      "A larger ball holds the smaller one: gradients mislead; try more steps and AutoAttack.",
    ),
    (
      found.usual > found.single_step + TOLERANCE,
      "more_steps_are_weaker",
      "amber",
      f"{NUM_STEPS} steps leave {percent(found.usual)}, a single one {percent(found.single_step)}.",
      "Gradients mislead: try smaller steps, restarts and AutoAttack.",
    ),
    (
      found.usual > found.square + TOLERANCE,
      "black_box_beats_gradients",
      "red",
      f"A blind search of {NUM_QUERIES} queries leaves {percent(found.square)}, PGD with gradients "
      f"{percent(found.usual)}.",
      "Gradients are masked: believe the smaller number, and use AutoAttack or attacks.bpda.",
    ),
  ]
