# SPDX-License-Identifier: Apache-2.0
"""What the library knows about one augmentation: the function, and how to tell what it did."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax.array_types import Images, PRNGKeys, SoftLabels
from mixboost_jax.augment._options import Rule

Account = list[dict[str, Any]]
"""One entry per operation, in order: `op` and its numbers with their unit."""

_BATCH = ("key", "images", "soft_labels")


@dataclasses.dataclass(frozen=True)
class Scene:
  """Where an augmentation meets one example: the keys and the pictures of its batch.

  Attributes:
    each: one key per example.
    row: of the example.
    shape: (height, width) of the picture as it comes in.
    batch: makes the pictures as they come in, and the soft labels; None if nobody gave them.
    own: the example's key, as an array of one; what `keys.per_example` gave this example.
  """

  each: PRNGKeys
  row: int
  shape: tuple[int, int]
  batch: Callable[[], tuple[Images, SoftLabels]] | None = None

  @property
  def own(self) -> PRNGKeys:
    """The example's key, as an array of one."""
    return self.each[self.row : self.row + 1]


@dataclasses.dataclass(frozen=True)
class Entry:
  """One augmentation. What is not said here is read from the signature of the function.

  Attributes:
    fn: `(key, images, *resources, **keywords) -> images`, or, if it mixes examples,
      `(key, images, soft_labels, **keywords) -> (images, soft_labels)`.
    describe: `(scene, **everything) -> account` of what happened to `scene.row`; it gets every
      keyword of `fn` in its order, defaults included, and the resources. Without it only the
      keywords are told.
    rules: of keywords that mean something else here than elsewhere, or occur nowhere else.
    side: keyword that is the side of the pictures that come out; "" if they keep their size.
    examples: `side of a picture -> {title: keywords}` for the contact sheet; without it, the
      defaults are shown.
  """

  fn: Callable[..., Any]
  describe: Callable[..., Account] | None = None
  rules: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
  side: str = ""
  examples: Callable[[int], Mapping[str, Mapping[str, Any]]] | None = None

  def __call__(self, *args: Any, **keywords: Any) -> Any:
    """Calls the function."""
    return self.fn(*args, **keywords)

  @property
  def keywords(self) -> dict[str, Any]:
    """Its options with their defaults; `inspect.Parameter.empty` where one must be given."""
    return {p.name: p.default for p in self._parameters if p.kind is p.KEYWORD_ONLY}

  @property
  def needs(self) -> tuple[str, ...]:
    """The arrays that it takes beside the batch."""
    positional = (p.name for p in self._parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return tuple(name for name in positional if name not in _BATCH)

  @property
  def mixes(self) -> bool:
    """Whether it mixes examples, and so takes and returns soft labels."""
    return any(p.name == "soft_labels" for p in self._parameters)

  @property
  def _parameters(self) -> list[inspect.Parameter]:
    return list(inspect.signature(self.fn).parameters.values())


def short(value: Any) -> float:
  """Rounds a number for an account."""
  return round(float(value), 6)
