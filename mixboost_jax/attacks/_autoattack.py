# SPDX-License-Identifier: Apache-2.0
"""AutoAttack: four attacks in a row, each on the images that survived the ones before.

Paper: Croce & Hein 2020, arXiv:2003.01690.

The host decides, the device works: survivors are packed into batches of few fixed sizes, a piece of
the schedule at a time, so broken images stop costing anything and nothing is compiled twice.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mixboost_jax import checks, registry
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels
from mixboost_jax.attacks import _apgd, _balls, _fab, _predictors, _square
from mixboost_jax.attacks import _stage as _stage_lib
from mixboost_jax.attacks._balls import Epsilon
from mixboost_jax.attacks._stage import Stage, Variant, num_classes_of

VERSIONS: dict[str, tuple[str, ...]] = {
  "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
  "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
  "rand": ("apgd-ce", "apgd-dlr"),
}
"""Names as in the authors' package; "rand" is for random predictors."""
ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
_PLUS_RESTARTS = {"apgd-ce": 5, "apgd-dlr": 5, "fab": 5}
_WINDOW = 4  # batches whose state is kept on the device at a time
_SMALLEST = 8  # images per batch, where the batch size is not smaller itself


class AutoAttackResult(NamedTuple):
  """What `autoattack` returns.

  Attributes:
    images: an adversarial image where one was found, else the clean one.
    correct: which clean images the predictor gets right.
    robust: which of them no attack broke.
    broken_by: index into `attacks` of the attack that broke the image, -1 otherwise.
    attacks: names in the order of running.
  """

  images: np.ndarray
  correct: np.ndarray
  robust: np.ndarray
  broken_by: np.ndarray
  attacks: tuple[str, ...]

  def accuracy_after(self) -> dict[str, float]:
    """Returns the accuracy in [0, 1] on clean images and after each attack."""
    accuracy = {"clean": float(self.correct.mean())}
    left = int(self.correct.sum())
    for index, name in enumerate(self.attacks):
      left -= int((self.broken_by == index).sum())
      accuracy[name] = left / len(self.correct)
    return accuracy


class Budget(NamedTuple):
  """How much each attack may spend; the defaults are the standard ones.

  Attributes:
    num_steps: steps of APGD and FAB.
    num_queries: queries of Square.
    num_targets: target classes of APGD-T and FAB-T (K - 1 if there are fewer).
    num_samples: draws averaged per prediction of a random predictor.
  """

  num_steps: int = 100
  num_queries: int = 5000
  num_targets: int = 9
  num_samples: int = 20


def piece_length(stage: Stage) -> int:
  """Returns how many steps run between two looks at the survivors."""
  return min(stage.num_steps, 10 if stage.has_gradient else 100)


def sizes(batch_size: int) -> list[int]:
  """Returns the sizes of batch that are compiled: full, and halves of it for the last survivors."""
  found = [batch_size]
  while found[-1] > _SMALLEST:
    found.append(-(-found[-1] // 2))
  return found


class _Compiled(NamedTuple):
  """One attack with its compiled functions and the runs it makes."""

  stage: Stage
  start: Callable[..., Any]
  advance: Callable[..., Any]
  finish: Callable[..., tuple[Array, Array]]
  variants: tuple[Variant, ...]


class AutoAttack:
  """AutoAttack for one predictor; compiles on first use, then runs for any radius and any data."""

  def __init__(
    self,
    logits_fn: Callable,
    *,
    norm: str = "linf",
    version: str | tuple[str, ...] = "standard",
    batch_size: int = 256,
    budget: Budget = Budget(),  # noqa: B008 (immutable)
  ):
    _balls.check_norm(norm)
    if isinstance(version, str):
      names = registry.lookup(VERSIONS, version, field="autoattack: version")
    else:
      names = version
    for name in names:
      registry.lookup(dict.fromkeys(ATTACKS), name, field="autoattack: attack")
    if batch_size < 1:
      raise ValueError(f"attacks.autoattack: batch_size must be >= 1, got {batch_size}.")
    if _predictors.is_random(logits_fn):
      if version != "rand":
        raise ValueError(
          f"attacks.autoattack: version {version!r} needs a deterministic predictor, this one "
          "takes a key; use version='rand', or fix the key: lambda images: logits_fn(key, images)."
        )
      logits_fn = _predictors.expectation(logits_fn, budget.num_samples)
    self.names, self.norm, self.budget, self.batch_size = names, norm, budget, batch_size
    self.restarts = _PLUS_RESTARTS if version == "plus" else {}
    self.predict = _predictors.keyed(logits_fn)
    self._compiled: dict[tuple, _Compiled] = {}
    self._fooled = jax.jit(
      lambda keys, images, labels: _balls.fooled(self.predict(keys, images), labels)
    )

  @checks.inputs(values="always", caller="autoattack")
  def __call__(
    self,
    key: AnyKey,
    images: Images | np.ndarray,
    labels: Labels | np.ndarray,
    *,
    epsilon: Epsilon,
    on_attack: Callable[[str, int], None] | None = None,
  ) -> AutoAttackResult:
    """Attacks `images`; see `autoattack`."""
    _balls.check_budget(epsilon=epsilon)
    clean = np.asarray(images, np.float32)
    labels = np.asarray(labels, np.int32)
    keys = keys_lib.per_example(key, len(clean))
    num_classes = num_classes_of(self.predict, keys[:1], jnp.asarray(clean[:1]))
    checks.class_numbers("autoattack", "labels", labels, num_classes)
    correct = ~self._wrong(keys, clean, labels)
    found, broken_by = clean.copy(), np.full(len(clean), -1, np.int32)
    for index, name in enumerate(self.names):
      attack = self._attack(name, clean.shape[1:], num_classes)
      tags = _predictors.step_keys(keys, ATTACKS.index(name) + 1)
      for variant in attack.variants:
        alive = np.flatnonzero(correct & (broken_by < 0))
        for rows in _windows(alive, _WINDOW * self.batch_size):
          tried, claimed = self._run(attack, variant, tags, clean, labels, rows, epsilon)
          hit = np.flatnonzero(claimed)
          hit = hit[self._wrong(keys[rows[hit]], tried[hit], labels[rows[hit]])]
          found[rows[hit]] = tried[hit]
          broken_by[rows[hit]] = index
      if on_attack is not None:
        on_attack(name, int((correct & (broken_by < 0)).sum()))
    return AutoAttackResult(found, correct, correct & (broken_by < 0), broken_by, self.names)

  def _attack(self, name: str, shape: tuple[int, ...], num_classes: int) -> _Compiled:
    """Builds the stage of an attack once per image shape."""
    if (name, shape) not in self._compiled:
      targets = min(self.budget.num_targets, num_classes - 1) if name.endswith("-t") else 1
      stage = _stage(name, self.predict, self.norm, self.budget, shape)
      restarts = self.restarts.get(name, 1)
      self._compiled[name, shape] = _compile(stage, self.norm, restarts, targets)
    return self._compiled[name, shape]

  def _wrong(self, keys: Array, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which predictions are wrong, in batches of one size."""
    wrong = np.zeros(len(images), bool)
    for rows, count in _batches(np.arange(len(images)), self.batch_size):
      answer = self._fooled(keys[rows], images[rows], labels[rows])
      wrong[rows[:count]] = np.asarray(answer)[:count]
    return wrong

  def _run(
    self,
    attack: _Compiled,
    variant: Variant,
    keys: Array,
    clean: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    epsilon: Epsilon,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Runs one variant on at most one window of images."""
    size = _WINDOW * self.batch_size
    parts = [
      attack.start(keys[part], clean[part], labels[part], epsilon, variant)
      for part, _ in _batches(rows, self.batch_size)
    ]
    parts += [parts[0]] * (_WINDOW - len(parts))
    state = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    done = np.asarray(attack.stage.found(state))[: len(rows)]
    piece, num_steps = piece_length(attack.stage), attack.stage.num_steps
    for begin in range(0, num_steps, piece):
      count = min(piece, num_steps - begin)
      for chosen in _survivors(np.flatnonzero(~done), self.batch_size, size):
        part = attack.advance(_take(state, chosen), epsilon, begin, count)
        state = _put(state, part, chosen)
      done = np.asarray(attack.stage.found(state))[: len(rows)]
    tried = np.zeros((len(rows), *clean.shape[1:]), np.float32)
    for chosen, count in _batches(np.flatnonzero(done), self.batch_size):
      result = attack.finish(state, chosen, clean[rows[chosen]], epsilon)
      tried[chosen[:count]] = np.asarray(result)[:count]
    return tried, done


def _windows(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
  """Cuts a list of rows into pieces of at most `size`."""
  for begin in range(0, len(rows), size):
    yield rows[begin : begin + size]


def _batches(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
  """Cuts a list of rows into pieces of exactly `size`, the last one padded with its first row."""
  for part in _windows(rows, size):
    padded = np.full(size, part[0])
    padded[: len(part)] = part
    yield padded, len(part)


def _survivors(rows: np.ndarray, batch_size: int, outside: int) -> Iterator[np.ndarray]:
  """Cuts a list of rows into full batches and a last one of the smallest size that holds it.

  It is padded by `outside`, a row beyond the last: read from the last one, never written back.
  """
  for part in _windows(rows, batch_size):
    smallest = min(size for size in sizes(batch_size) if size >= len(part))
    yield np.concatenate([part, np.full(smallest - len(part), outside)])


@jax.jit
def _take(state: Any, chosen: Array) -> Any:
  return jax.tree.map(lambda leaf: jnp.take(leaf, chosen, axis=0, mode="clip"), state)


@functools.partial(jax.jit, donate_argnums=0)
def _put(state: Any, part: Any, chosen: Array) -> Any:
  def put(leaf: Array, rows: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # keys never change
      return leaf
    return leaf.at[chosen].set(rows, mode="drop")

  return jax.tree.map(put, state, part)


def _stage(
  name: str, predict: Callable, norm: str, budget: Budget, shape: tuple[int, ...]
) -> Stage:
  """Returns the stage of a named attack."""
  if name.startswith("apgd"):
    loss = {"apgd-ce": "ce", "apgd-dlr": "dlr", "apgd-t": "dlr-targeted"}[name]
    return _apgd.stage(predict, norm=norm, loss=loss, num_steps=budget.num_steps)
  if name.startswith("fab"):
    return _fab.stage(predict, norm=norm, num_steps=budget.num_steps, targeted=name == "fab-t")
  return _square.stage(predict, norm=norm, num_queries=budget.num_queries, image_shape=shape)


def _compile(stage: Stage, norm: str, restarts: int, num_targets: int) -> _Compiled:
  """Wraps a stage into functions of fixed shapes."""

  def advance(state: Any, epsilon: Epsilon, begin: Array, num_steps: Array) -> Any:
    return _stage_lib.advance(stage, state, epsilon, begin=begin, num_steps=num_steps)

  def finish(state: Any, chosen: Array, clean: Array, epsilon: Epsilon) -> Array:
    images = jnp.take(stage.result(state), chosen, axis=0)
    return _balls.project(images, clean, epsilon=epsilon, norm=norm)

  variants = [Variant(r, t) for r in range(restarts) for t in range(num_targets)]
  return _Compiled(stage, jax.jit(stage.start), jax.jit(advance), jax.jit(finish), tuple(variants))


@checks.inputs(values="never")
def autoattack(
  key: AnyKey,
  logits_fn: Callable,
  images: Images | np.ndarray,
  labels: Labels | np.ndarray,
  *,
  epsilon: Epsilon,
  norm: str = "linf",
  version: str | tuple[str, ...] = "standard",
  batch_size: int = 256,
  budget: Budget = Budget(),  # noqa: B008 (immutable)
  on_attack: Callable[[str, int], None] | None = None,
) -> AutoAttackResult:
  """Runs AutoAttack; the robust accuracy is `result.robust.mean()`.

  Paper: Croce & Hein 2020, arXiv:2003.01690, Sec. 6.

  Deviation: any K >= 2. With two classes DLR and targeted DLR become margins, with three the
  denominator of the targeted DLR is z_(1) - z_(3); `num_targets` is at most K - 1. An example's
  result depends on its own key only.

  ```python
  budget = attacks.Budget(num_steps=10, num_queries=100)  # for a first look
  result = attacks.autoattack(key, logits_fn, images, labels, epsilon=8 / 255, budget=budget)
  print(result.accuracy_after())
  ```

  Besides the arguments of `pgd`:
    logits_fn: `images -> logits`. A random `(key, images) -> logits` needs `version="rand"`, where
      `budget.num_samples` draws are averaged; the result still depends on the draws, so evaluate
      the returned images again with independent ones.
    images: all clean images in [0, 1], not a batch of them.
    labels: true labels.
    version: a name of `VERSIONS`, or a tuple of names of `ATTACKS`.
    batch_size: images per call of the network.
    budget: steps, queries, targets and samples.
    on_attack: called with (name, survivors) after each attack.

  Returns:
    Worst-case images and what broke them. To attack again (another radius, more data) without
    compiling again, keep an `AutoAttack` object.
  """
  run = AutoAttack(logits_fn, norm=norm, version=version, batch_size=batch_size, budget=budget)
  return run(key, images, labels, epsilon=epsilon, on_attack=on_attack)
