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

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mixboost_jax import corruptions, registry
from mixboost_jax.evaluate import _attacks, _films, _ood
from mixboost_jax.evaluate._attacks import ATTACKS
from mixboost_jax.evaluate._corruption import corruption
from mixboost_jax.evaluate._examples import GENERATED, Unit
from mixboost_jax.evaluate._films import FRAMES
from mixboost_jax.evaluate._numbers import SEVERITIES
from mixboost_jax.evaluate._ood import ood
from mixboost_jax.evaluate._pictures import pictures, renditions, temperature
from mixboost_jax.evaluate._session import Session
from mixboost_jax.evaluate._store import Columns

_CORRUPTING = ("corruption", "sequence")


class _Family:
  """A word and the members that it stands for."""

  def __init__(self, kind: str, members: Sequence[str] = (), *, has_severities: bool = False):
    self.kind, self.members, self.has_severities = kind, tuple(members), has_severities


def _families(*, large: bool, foreign_sets: Sequence[str] = ()) -> dict[str, _Family]:
  """Returns every word; `large` pictures take the lists of ImageNet."""
  names = corruptions.NAMES
  bar = names["c_bar_imagenet" if large else "c_bar"]
  return {
    **{name: _Family("pictures") for name in ("clean", "occluded", "neutral", "conflicting")},
    "c": _Family("corruption", names["c"], has_severities=True),
    "c_extra": _Family("corruption", names["c_extra"], has_severities=True),
    "c_bar": _Family("corruption", bar, has_severities=True),
    "p": _Family("sequence", names["p"]),
    "p_extra": _Family("sequence", names["p_extra"]),
    "p_code": _Family("sequence", names["p_code"]),
    "r": _Family("renditions"),
    **{name: _Family(attack.kind) for name, attack in ATTACKS.items()},
    "ood": _Family("ood", (*_ood.SYNTHETIC, *foreign_sets)),
    "temperature": _Family("temperature"),
  }


SUITES: dict[str, str] = {
  "clean": "clean",
  "occluded": "clean,occluded",
  "shapes": "clean,occluded,neutral,conflicting",
  "quick": "clean,c:*:3,pgd",
  "standard": "clean,c,c_bar,p,pgd",
  "ood": "clean,ood",
  "adversarial": "clean,pgd,pgd-10,pgd-50,pgd-200,autoattack",
  "full": "clean,c,c_extra,c_bar,p,p_extra,pgd,pgd-10,pgd-50,autoattack,ood,temperature",
}
"""By `config.evaluate.suite`. `standard` has the eight columns of Table I of MixBoost."""

DEFAULT_EXAMPLES: dict[str, int] = {
  "corruption": 500,
  "sequence": 200,
  "attack": 1000,
  "autoattack": 500,
}
"""Most examples of one unit of a kind (films, for sequences) unless the user says otherwise: the
first ones of the split, the same for every unit. Kinds that are not named take all."""
QUICK_EXAMPLES: dict[str, int] = {"corruption": 200, "attack": 200}
"""The same for the suite `quick`."""


def is_large(image_shape: Sequence[int]) -> bool:
  """Returns whether pictures of this shape take the constants and lists of ImageNet."""
  table = corruptions.choose_table("auto", height=image_shape[0], width=image_shape[1])
  return table == "imagenet"


def expand(
  suite: str, *, large: bool = False, foreign_sets: Sequence[str] = ()
) -> tuple[Unit, ...]:
  """Returns the units of a suite, in order and without repeats.

  Args:
    suite: a name in `SUITES`, or words with commas between them.
    large: whether the pictures take the lists of ImageNet.
    foreign_sets: names of out-of-distribution sets from folders, beside the synthetic ones.

  Raises:
    ValueError: naming the unknown word.
  """
  families = _families(large=large, foreign_sets=foreign_sets)
  units: dict[Unit, None] = {}
  for word in SUITES.get(suite, suite).split(","):
    units.update(dict.fromkeys(_units_of(word.strip(), families)))
  return tuple(units)


def _units_of(word: str, families: Mapping[str, _Family]) -> list[Unit]:
  written, *rest = word.split(":")
  name = written.removesuffix(f"_{GENERATED}")
  if name not in families or (name != written and families[name].kind not in _CORRUPTING):
    raise ValueError(registry.unknown_name(written, {*SUITES, *families}, field="suite"))
  family = families[name]
  member, level = (*rest, "*", "*")[:2] if family.members else ("", "*")
  if len(rest) > (0 if not family.members else 2 if family.has_severities else 1):
    raise ValueError(f"suite: {word!r} has too many parts; write {_form(name, family)}.")
  if member not in ("", "*"):
    registry.lookup(dict.fromkeys(family.members), member, field=f"suite: member of {name!r}")
  if level != "*" and level not in map(str, SEVERITIES):
    raise ValueError(f"suite: {word!r}: severity must be 1 to 5, or * for all.")
  members = family.members if member == "*" else (member,)
  levels = (0,) if not family.has_severities else SEVERITIES if level == "*" else (int(level),)
  source = GENERATED if name != written else ""
  return [Unit(family.kind, name, one, level, source) for one in members for level in levels]


def _form(name: str, family: _Family) -> str:
  if not family.members:
    return repr(name)
  return f"'{name}:MEMBER:SEVERITY'" if family.has_severities else f"'{name}:MEMBER'"


def members_of(family: str, *, large: bool) -> tuple[str, ...]:
  """Returns every member of a family, in the order of its benchmark."""
  return _families(large=large)[family].members


def asks_for(suite: str, *, kinds: Sequence[str]) -> bool:
  """Returns whether a word of a suite is of one of the kinds; `c_generated` reads no files."""
  families = _families(large=False)
  words = [word.strip().partition(":")[0] for word in SUITES.get(suite, suite).split(",")]
  return any(word in families and families[word].kind in kinds for word in words)


def suite_problem(suite: str) -> str | None:
  """Returns what is wrong with a suite, or None: a check for `settings.resolve_runs`.

  Members of `ood` that come from folders, and lists that depend on the size of the pictures, are
  only known later, so any of them passes.
  """
  problems = []
  all_words = SUITES.get(suite, suite).split(",")
  words = [word for word in all_words if not word.strip().startswith("ood:")]
  if not words:
    return None
  for large in (False, True):
    try:
      expand(",".join(words), large=large)
    except ValueError as error:
      problems.append(str(error).removeprefix("suite: "))
    else:
      return None
  return problems[0]


# How each kind of unit is measured: from a range of examples to per-example columns.


class Kind(NamedTuple):
  """One way of measuring."""

  run: Callable[[Session, Unit, int, int], Columns]
  piece: int
  """Examples measured between two saves (rounded up to whole batches); 0: all at once."""


KINDS: dict[str, Kind] = {
  "pictures": Kind(pictures, 5000),
  "corruption": Kind(corruption, 5000),
  "sequence": Kind(_films.sequence, 500),
  "renditions": Kind(renditions, 5000),
  "attack": Kind(_attacks.attack, 1000),
  "autoattack": Kind(_attacks.autoattack, _attacks.AUTOATTACK_PIECE),
  "ood": Kind(ood, 5000),
  "temperature": Kind(temperature, 0),
}
"""By `Unit.kind`."""


def passes(unit: Unit) -> float:
  """Returns roughly how many passes of the network one example of a unit takes."""
  if unit.kind == "sequence":
    return FRAMES
  if unit.kind in ("attack", "autoattack"):
    return 3.0 * ATTACKS[unit.family].num_steps + 1
  return 1.0
