# SPDX-License-Identifier: Apache-2.0
"""What an evaluation is made of: words, the units that each stands for, and named lists of words.

A suite is a list of words with commas between them, or the name of one. A word is `FAMILY`,
`FAMILY:MEMBER` or `FAMILY:MEMBER:SEVERITY`; `*` stands for every member. So

```text
clean,c:gaussian_noise,pgd,ood     clean, one corruption at five severities, PGD, foreign pictures
c:*:3                              every corruption of -C at severity 3
clean,r                            ImageNet-R, which is only read from published files
p_code                             -P with the list of the authors' code (`corruptions.NAMES`)
```
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mixboost_jax import corruptions, registry
from mixboost_jax.evaluate import _attacks, _corruption, _films, _ood, _pictures, _stress
from mixboost_jax.evaluate._examples import GENERATED, Unit
from mixboost_jax.evaluate._kind import SEVERITIES, Kind
from mixboost_jax.evaluate._released import SOURCE, Released

KINDS: dict[str, Kind] = {
  "pictures": _pictures.PICTURES,
  "corruption": _corruption.CORRUPTION,
  "sequence": _films.SEQUENCE,
  "renditions": _pictures.RENDITIONS,
  "attack": _attacks.ATTACK,
  "autoattack": _attacks.AUTOATTACK,
  "stress": _stress.STRESS,
  "ood": _ood.OOD,
  "temperature": _pictures.TEMPERATURE,
}
"""By `Unit.kind`: all that an evaluation knows of them."""

SUITES: dict[str, str] = {
  "clean": "clean",
  "occluded": "clean,occluded",
  "shapes": "clean,occluded,neutral,conflicting",
  "quick": "clean,c:*:3,pgd",
  "standard": "clean,c,c_bar,p,pgd",
  "ood": "clean,ood",
  "adversarial": "clean,pgd,pgd-10,pgd-50,pgd-200,autoattack",
  "augmentation": "clean,pgd-l2-0.25-10,pgd-l2-0.25-100,pgd-l2-0.5-10,pgd-l2-0.5-100,stress",
  "full": "clean,c,c_extra,c_bar,p,p_extra,pgd,pgd-10,pgd-50,autoattack,ood,temperature",
}
"""By `config.evaluate.suite`. `standard` has the eight columns of Table I of MixBoost,
`augmentation` what the lecture of Eghbal-zadeh 2020 compares augmentations by."""


class Word(NamedTuple):
  """What a word stands for: units of one kind, one for each member if there are any."""

  kind: str
  members: tuple[str, ...]


def words(*, large: bool, foreign_sets: Sequence[str] = ()) -> dict[str, Word]:
  """Returns every word; arguments as of `expand`."""
  found = {}
  for name, kind in KINDS.items():
    own = kind.words(large, foreign_sets) if callable(kind.words) else kind.words
    found |= {word: Word(name, tuple(members)) for word, members in own.items()}
  return found


def expand(
  suite: str, *, large: bool = False, foreign_sets: Sequence[str] = ()
) -> tuple[Unit, ...]:
  """Returns the units of a suite, in order and without repeats.

  ```python
  units = evaluate.expand("clean,c:gaussian_noise")
  assert len(units) == 1 + 5  # the clean pictures, and the corruption at five severities
  ```

  Args:
    suite: a name in `SUITES`, or words with commas between them.
    large: whether the pictures take the lists of ImageNet.
    foreign_sets: names of out-of-distribution sets from folders, beside the synthetic ones.
  """
  known = words(large=large, foreign_sets=foreign_sets)
  units: dict[Unit, None] = {}
  for text in _split(suite):
    units.update(dict.fromkeys(_units_of(text, known)))
  return tuple(units)


def _split(suite: str) -> list[str]:
  return [text.strip() for text in SUITES.get(suite, suite).split(",")]


def _units_of(text: str, known: Mapping[str, Word]) -> list[Unit]:
  written, *rest = text.split(":")
  name = written.removesuffix(f"_{GENERATED}")
  word = known.get(name)
  # `c_generated` is a word where there is a choice between published files and pictures made here.
  has_choice = word and KINDS[word.kind].made_here and KINDS[word.kind].published
  if word is None or (name != written and not has_choice):
    within = (f"{family}:{one}" for family, word in known.items() for one in word.members)
    hint = next((f" Write {m!r}." for m in within if name and f":{name}" in m), "")
    raise ValueError(registry.unknown_name(written, {*SUITES, *known}, field="suite") + hint)
  parts = ["MEMBER", "SEVERITY"][: KINDS[word.kind].has_severities + 1] if word.members else []
  if len(rest) > len(parts):
    form = ":".join([name, *parts])
    raise ValueError(f"suite: {text!r} has too many parts; write {form!r}.")
  member, level = (*rest, "*", "*")[:2] if word.members else ("", "*")
  if member not in ("", "*", *word.members):
    own = f"{name}:{member}"
    other = next((f"{family}:{member}" for family, w in known.items() if member in w.members), "")
    wrong = f"suite: {own!r}: {member!r} is a member of another word; write {other!r}."
    raise ValueError(
      wrong
      if other
      else registry.unknown_name(member, word.members, field=f"suite: member of {name!r}")
    )
  if level != "*" and level not in map(str, SEVERITIES):
    raise ValueError(f"suite: {text!r}: severity must be 1 to 5, or * for all.")
  members = word.members if member == "*" else (member,)
  levels = (0,) if len(parts) < 2 else SEVERITIES if level == "*" else (int(level),)
  source = GENERATED if name != written else ""
  return [Unit(word.kind, name, one, level, source) for one in members for level in levels]


def replace_units(units: Sequence[Unit], released: Released | None) -> tuple[Unit, ...]:
  """Returns the units, those of published families read from files unless made here on purpose.

  Raises:
    ValueError: if a unit that cannot be made here is not published in the given folder.
  """
  result: dict[Unit, None] = {}
  for unit in units:
    is_there = released is not None and unit.family in released.sets
    member = corruptions.BENCHMARK_NAMES.get(unit.member, unit.member)
    if not KINDS[unit.kind].made_here:
      if not is_there:
        raise ValueError(
          f"evaluate: suite: {unit.family!r} is read from published files only; set "
          "evaluate.released_dir to the folder that holds imagenet-r."
        )
      result[dataclasses.replace(unit, source=SOURCE)] = None
    elif unit.source == GENERATED or released is None or not is_there:
      result[dataclasses.replace(unit, source="")] = None
    elif member in released.members(unit.family):
      result[dataclasses.replace(unit, member=member, source=SOURCE)] = None
  return tuple(result)


def asks_for(suite: str, *, kinds: Sequence[str]) -> bool:
  """Returns whether a word of a suite is of one of the kinds; `c_generated` reads no files.

  ```python
  assert evaluate.asks_for("clean,pgd", kinds=["attack"])
  assert not evaluate.asks_for("clean", kinds=["attack"])
  ```
  """
  known = words(large=False)
  asked = [text.partition(":")[0] for text in _split(suite)]
  return any(word in known and known[word].kind in kinds for word in asked)


def suite_problem(suite: str) -> str | None:
  """Returns what is wrong with a suite, or None: a check for `settings.resolve_runs`.

  Members of `ood` that come from folders, and lists that depend on the size of the pictures, are
  only known later, so any of them passes.

  ```python
  assert evaluate.suite_problem("clean,pgd") is None
  print(evaluate.suite_problem("claen"))
  ```
  """
  known_now = [text for text in _split(suite) if not text.startswith("ood:")]
  problems = []
  for large in (False, True):
    try:
      if known_now:
        expand(",".join(known_now), large=large)
    except ValueError as error:
      problems.append(str(error).removeprefix("suite: "))
  return problems[0] if len(problems) == 2 else None
