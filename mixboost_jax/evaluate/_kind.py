# SPDX-License-Identifier: Apache-2.0
"""What a kind of evaluation is: one object that says all that runner, budget and store need.

A new kind is one entry of `_suites.KINDS`; that it can be asked for, planned, measured piece by
piece, resumed, aggregated and reported follows from what the entry says. Its numbers are made by
`metric`, `bootstrapped` and `error`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.evaluate._examples import Unit
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._session import Session
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.results import Metric

CLEAN = "clean"
"""The word for the split itself, with which others are compared."""
Curves = dict[str, list[dict[str, Any]]]
Words = Mapping[str, Sequence[str]]
"""Word -> members; () for a word of one unit."""
STEP = 100
"""Passes of the network (examples, or frames of films) by which sizes are planned."""
SEVERITIES = (1, 2, 3, 4, 5)
NUM_BINNED_RESAMPLES = 200
"""Of statistics that cost a sort's length each on every resample."""


class Place(NamedTuple):
  """What all metrics of one family share."""

  dataset: str
  split: str
  source: str
  confidence: float


class Family(NamedTuple):
  """What was measured for one word of a suite, and what may be compared with it."""

  word: str
  columns: Mapping[Unit, Columns]
  """Of every unit that was asked for, equally many examples each."""
  members: Sequence[str]
  """The whole list that the word stands for, whether measured or not."""
  place: Place
  clean: Columns | None
  """Of the split itself, if it was measured."""
  session: Session
  ece_bins: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """One way of measuring."""

  words: Words | Callable[[bool, Sequence[str]], Words]
  """What a suite can ask for; a function `(pictures are large, names of foreign sets) -> words` if
  that depends on them."""
  measure: Callable[[Session, Unit, int, int], Columns]
  """`(session, unit, start, stop) -> columns` of these places of the examples."""
  aggregate: Callable[[Family], tuple[list[Metric], Curves]]
  """Turns the columns of a word into metrics and curves."""
  piece: int = 5000
  """Examples measured between two saves (rounded up to whole batches); 0: all at once."""
  passes: Callable[[Unit], float] = lambda unit: 1.0
  """Roughly how many passes of the network one example takes."""
  default_examples: int = 0
  """Most examples of a unit unless the user says otherwise: the first ones of the split, the same
  for every unit; 0: all."""
  quick_examples: int = 0
  """The same in the suite `quick`."""
  step: int = STEP
  """Examples of the smallest part in which a budget plans."""
  counted: str = ""
  """What the examples are if not pictures, such as "films of ", for notes."""
  has_severities: bool = False
  is_attack: bool = False
  """Whether gradients are followed, so that they have to be checked first."""
  made_here: bool = True
  """False: there are published files only."""
  published: Callable[[Released, Unit, int, int], Sequence[Any]] | None = None
  """Reads what a piece is measured on from published files, for its hash; None: never read."""
  num_published: Callable[[Released, Unit], int] = lambda released, unit: len(released.examples)
  """Examples that a published set has for a unit."""
  own_pictures: Callable[[Session, Unit], np.ndarray | None] = lambda session, unit: None
  """A set that is measured instead of the examples."""
  count: Callable[[Session, Unit, int, int], int] = lambda session, unit, size, num_clean: size
  """`(session, unit, planned size, examples of the word clean) -> size`."""
  definition: Callable[[Session, Unit], Any] = lambda session, unit: None
  """Constants that the numbers depend on: with others a unit is measured anew."""
  prepare: Callable[[Session, Unit, int], None] = lambda session, unit, rows: None
  """Compiles ahead what batches of so many rows need, in whatever thread it is called."""
  suffix: Callable[[str], str] = "-{}".format
  """Word -> what is added to the name of the data set."""


def metric(
  place: Place,
  name: str,
  value: float,
  *,
  count: int,
  ends: tuple[float, float] | None = None,
  interval: str = "none",
  unit: str = "%",
  better: str = "lower",
) -> Metric:
  """Returns a metric with the interval between `ends` that was made as `interval` says, if any.

  ```python
  place = evaluate.Place("cifar10", "test", "tfds", confidence=0.95)
  error = evaluate.metric(place, "error", 4.2, count=10_000, ends=(3.8, 4.6), interval="wilson")
  ```
  """
  low, high = ends or (None, None)
  confidence = None if ends is None else place.confidence
  where = place.dataset, place.split, place.source
  return Metric(name, value, low, high, confidence, interval, count, unit, better, *where)


def bootstrapped(
  place: Place,
  name: str,
  value: float,
  replicates: np.ndarray,
  *,
  count: int,
  unit: str = "%",
  better: str = "lower",
  recentred: bool = False,
) -> Metric:
  """Returns a metric whose interval comes from bootstrap replicates; none for a single example."""
  options = {"count": count, "unit": unit, "better": better}
  if count < 2:
    return metric(place, name, value, **options)
  method = "recentred" if recentred else "percentile"
  ends = metrics.interval_of(replicates, value, confidence=place.confidence, method=method)
  if not recentred:
    return metric(place, name, value, ends=ends, interval="bootstrap", **options)
  ends = max(0.0, ends.low), max(0.0, ends.high)
  return metric(place, name, value, ends=ends, interval="bootstrap, recentred", **options)


def error(place: Place, correct: np.ndarray) -> Metric:
  """Returns the error in % of examples that are right or wrong (1 or 0), with Wilson's interval."""
  count = len(correct)
  wrong = count - round(float(correct.sum(dtype=np.float64)))
  low, high = metrics.wilson(wrong, count, confidence=place.confidence)
  ends = 100 * low, 100 * high
  return metric(place, "error", 100 * wrong / count, count=count, ends=ends, interval="wilson")
