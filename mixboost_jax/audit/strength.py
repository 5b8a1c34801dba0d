# SPDX-License-Identifier: Apache-2.0
"""Were the attacks of an audit strong enough for its claim?"""

from collections.abc import Mapping, Sequence

from mixboost_jax.audit.plan import SHARED, Attack, Plan
from mixboost_jax.runtime.results import Flag

TOLERANCE = 0.05
"""Share of pictures by which attacks that know the defense may trail those that do not."""


def doubts(
  attacks: Sequence[Attack], plan: Plan, accuracies: Mapping[str, float], *, is_defended: bool
) -> list[Flag]:
  """Returns why the lowest accuracy may be too high.

  Args:
    attacks: that were run.
    plan: what they could spend.
    accuracies: word of an attack -> accuracy it left, in [0, 1].
    is_defended: whether there is a defense that an attack may know or not.
  """
  found = []
  reaches = {one.word: reach for one in attacks if (reach := plan.reach(one)) is not None}
  short = [word for word, reach in reaches.items() if reach < plan.epsilon * (1 - 1e-6)]
  if short:
    far, names = max(map(reaches.__getitem__, short)), ", ".join(short)
    found.append(
      Flag(
        "short_attacks",
        "red" if len(short) == len(reaches) else "amber",
        f"{names}: steps x step size is at most {far:.3g}, less than epsilon = {plan.epsilon:.3g}; "
        "most of the ball was never reached.",
        "Raise num_steps and eot_steps (or the step sizes) until their product is twice epsilon.",
      )
    )
  if not is_defended:
    return found
  knowing = [one.word for one in attacks if one.kind not in SHARED]
  blind = [one.word for one in attacks if one.kind in SHARED]
  if not knowing:
    found.append(
      Flag(
        "nobody_knows_the_defense",
        "amber",
        "No attack looked at the defense, so the claim holds against none that does.",
        "Add adaptive, eot-ce or apgd-ce to the attacks.",
      )
    )
  elif blind and not plan.survivors_only:
    best, other = (min(words, key=accuracies.__getitem__) for words in (knowing, blind))
    if accuracies[best] > accuracies[other] + TOLERANCE:
      found.append(
        Flag(
          "knowledge_does_not_help",
          "red",
          f"Attacks that know the defense leave {100 * accuracies[best]:.1f} % at best ({best}), "
          f"{other}, which does not, leaves {100 * accuracies[other]:.1f} %.",
          "They are too weak or their gradient misleads: more steps, restarts and samples.",
        )
      )
  return found
