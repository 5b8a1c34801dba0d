# SPDX-License-Identifier: Apache-2.0
"""Attacks defenses with everything that may break them and claims the lowest accuracy.

```python
pool = defenses.build_pool(train_images, train_labels, num_classes=10)
results = audit.audit(
  logits_fn, (images, labels), {"mi-ol": defenses.PRESETS["cifar10/mixup"]["mi-ol"]}, pool=pool
)
```

How a random defense is scored. Every image that an attack returns is classified by `redraws`
independent draws of the whole defense, with keys that no attack has seen; the accuracy is the mean
over images and draws. The worst case takes, for each image, the attack that fooled most of these
draws, and scores its image with further draws, so that choosing does not bias it. The claim is the
lowest of all these accuracies.

Before a defense is attacked its gradient is checked (`evaluate/_sanity.py`). Where it is masked the
flags are part of the results, and every attack that follows it runs a second time through BPDA.
Afterwards the attacks are (`strength.py`).
"""

import contextlib
import dataclasses
import functools
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import attacks as attacks_lib
from mixboost_jax import checks, defenses, evaluate, keys, metrics
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.audit.attacks import Target, attackable, craft, defended, hides_rounding
from mixboost_jax.audit.plan import (
  OWN,
  SHARED,
  UNDEFENDED,
  Attack,
  OwnDefense,
  Plan,
  applies,
  parse_attack,
  policy_from,
  with_twins,
)
from mixboost_jax.audit.strength import doubts
from mixboost_jax.evaluate import Examples, Store, digest, network_digest
from mixboost_jax.runtime import interrupt, log
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.runtime.log import Progress
from mixboost_jax.runtime.results import Clock, Flag, Metric, Results

DEFAULT_ATTACKS = ("oblivious", "adaptive", "published", "eot-ce", "eot-margin", "eot-dlr")
DEFAULT_ATTACKS += ("apgd-ce", "apgd-t", "transfer", "square")
CHECKED_DRAWS = 3
"""Draws of a random defense, fixed, whose gradient is checked."""
PROBABILITY_TOLERANCE = 1e-2
_TOLERANCE = 1e-5
PREFIX = "audit"
"""First part of the names of metrics and curves: `audit/DEFENSE/ATTACK`."""
CLEAN, WORST, CLAIM = "clean", "worst-case", "claim"
REPLACED = "Attacks marked -bpda have replaced the gradient; the claim includes them."
"""The remedy of a masked gradient where these attacks got further than those without."""


def audit(
  logits_fn: LogitsFn,
  dataset: Any,
  policies: Mapping[str, Mapping[str, Any] | Callable[..., Any] | OwnDefense],
  *,
  pool: defenses.Pool | None = None,
  attacks: Sequence[str] = DEFAULT_ATTACKS,
  plan: Plan = Plan(),  # noqa: B008 (immutable)
  surrogate_fn: LogitsFn | None = None,
  split: str = "test",
  batch_size: int = 64,
  seed: int = 0,
  confidence: float = 0.95,
  mesh: Mesh | None = None,
  name: str = "model",
  folder: str | os.PathLike | None = None,
  should_stop: Callable[[], bool] | None = None,
) -> Results:
  """Attacks every defense in every way and reports all accuracies; the claim is the lowest.

  ```python
  policies = {"mirrored": lambda x: jax.nn.softmax(logits_fn(x) + logits_fn(x[:, :, ::-1]))}
  results = audit.audit(logits_fn, (images, labels), policies, attacks=["eot-ce"])
  print(results["audit/mirrored/claim"])  # the accuracy that is left, with its interval
  ```

  Args:
    logits_fn: the undefended network, `images -> logits`, in evaluation mode.
    dataset: as for `evaluate`; every image of the split is attacked.
    policies: what to call a defense -> its policy (an entry of `defenses.PRESETS`, or
      `{"name": "none"}` for the bare network), or a defense of your own: `images -> probabilities`;
      with draws, `(keys, images) -> probabilities` with a key per picture; or an `OwnDefense`,
      which also says what attacks through BPDA follow.
    pool: clean images of the training split, for mixup inference; disjoint from the dataset.
    attacks: words `KIND[-STEPS][-targeted][-bpda]` with a kind of `ATTACKS`.
    plan: what the attacks may spend, and how often the defense is drawn anew to score an image.
    surrogate_fn: the network that `transfer` attacks; the undefended one if None.
    split: as for `evaluate`.
    batch_size: as for `evaluate`.
    seed: root of all draws. An image's draws depend on the seed and its id alone.
    confidence: level of the intervals, in (0, 1).
    mesh: images are split over all its devices; all devices if None.
    name: what results and reports call the model.
    folder: where finished attacks are kept, so that a stopped audit goes on; None keeps nothing.
    should_stop: asked before every batch; otherwise as for `evaluate`.

  Returns:
    Metrics `audit/DEFENSE/ATTACK` in % with intervals, beside each defense `clean`, `worst-case`
    and `claim`; curves `audit/redraws/...` with the accuracy of every single draw of the defense;
    flags `audit/DEFENSE/...`, a red one of which means that the claim is not to be trusted.

  Raises:
    ValueError: if a word, an option, or what the network returns is not as said here.
  """
  chosen = [parse_attack(word) for word in attacks]
  if batch_size < 1 or not policies or not chosen or not 0 < confidence < 1:
    raise ValueError(
      "audit: expected batch_size >= 1, at least one defense and attack, and confidence in (0, 1); "
      f"got {batch_size}, {len(policies)}, {len(chosen)}, {confidence}."
    )
  clock = Clock("audit")
  is_ready = isinstance(dataset, Examples)
  pictures = dataset if is_ready else evaluate.from_dataset(dataset, split=split)
  runner = Runner(
    logits_fn,
    pictures,
    pool=pool,
    plan=plan,
    surrogate_fn=surrogate_fn,
    batch_size=batch_size,
    seed=seed,
    mesh=mesh_lib.create() if mesh is None else mesh,
    store=Store(folder),
  )
  known = {label: policy_from(defense) for label, defense in policies.items()}
  for label, policy in known.items():
    runner.refuse(label, policy)
  plan_row = {**dataclasses.asdict(plan), "is_l2": plan.norm == "l2"}
  found, curves = [], {f"{PREFIX}/plan": _point(plan_row)}
  flags: list[Flag] = []
  asked = _all_outcomes(runner, known, chosen, name=name, should_stop=should_stop)
  for label, outcomes, raised in asked:
    flags += raised
    found += metrics_of(label, outcomes, place_of(pictures, confidence))
    curves[f"{PREFIX}/policy/{label}"] = _point(known[label])
    for word, outcome in outcomes.items():
      rates = outcome.correct.mean(axis=1, dtype=np.float64)
      points = [{"step": i, "accuracy": 100 * float(rate)} for i, rate in enumerate(rates)]
      curves[f"{PREFIX}/redraws/{label}/{word}"] = points
  return clock.results(name, found, curves, flags=flags)


@contextlib.contextmanager
def _asking_for_keys(name: str, predict: Callable) -> Iterator[None]:
  """Says of a random defense that fails how its keys arrive."""
  try:
    yield
  except (TypeError, ValueError, AttributeError) as error:
    if not attacks_lib.is_random(predict):
      raise
    raise ValueError(
      f"{name} failed on (keys[2], images[2, H, W, C]): {str(error).splitlines()[0]} A random "
      "defense takes its keys first, one per picture (jax.vmap(draw)(keys, images)); one that "
      "wants a single key is passed as attacks.Randomized(predict, shares_key=True)."
    ) from error


def _point(tree: Mapping[str, Any]) -> list[dict[str, float]]:
  """Returns a curve of one point, of what such a point can hold."""
  return [{"step": 0, **{k: +v for k, v in tree.items() if isinstance(v, int | float)}}]


class Outcome(NamedTuple):
  """What one attack did to one defense."""

  images: np.ndarray
  """float32[N, H, W, C], inside the ball."""
  correct: np.ndarray
  """bool[redraws, N], whether each draw of the defense classifies each image correctly."""

  @property
  def accuracy(self) -> float:
    """Mean over images and draws, in [0, 1]."""
    return float(self.correct.mean(dtype=np.float64))


class Runner:
  """Compiles attacks and defended predictions, and runs them in batches over all devices."""

  def __init__(
    self,
    logits_fn: LogitsFn,
    pictures: Examples,
    *,
    pool: defenses.Pool | None,
    plan: Plan,
    surrogate_fn: LogitsFn | None,
    batch_size: int,
    seed: int,
    mesh: Mesh,
    store: Store,
  ):
    """Opens the networks up: their parameters become arguments of the compiled programs."""
    self._pictures = pictures
    images = np.asarray(pictures.images)
    self.images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    self.labels, self.ids = pictures.labels, pictures.ids
    self.plan, self.mesh, self._store = plan, mesh, store
    self.batch_size = math.ceil(min(batch_size, len(images)) / mesh.size) * mesh.size
    shape = (self.batch_size // mesh.size, *images.shape[1:])
    self._apply_fn, variables = evaluate.open_up(logits_fn, shape)
    self._surrogate_fn, surrogate = self._apply_fn, None
    if surrogate_fn is not None:
      self._surrogate_fn, surrogate = evaluate.open_up(surrogate_fn, shape)
    arguments = variables, surrogate, pool
    self._arguments = jax.device_put(arguments, mesh_lib.replicated(mesh))
    self._root = keys.root_key(seed)
    self._shared: dict[str, np.ndarray] = {}
    self._compiled: dict[str, Callable[..., jax.Array]] = {}
    self._identity: str | None = None
    self._seed = seed
    self.should_stop: Callable[[], bool] = lambda: False
    """Asked before every batch."""

  def refuse(self, label: str, policy: Mapping[str, Any]) -> None:
    """Raises ValueError if a defense of one's own cannot be compiled, or returns something else."""
    shape = (2, *self.images.shape[1:])
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    for part in ("predict", "surrogate"):
      if policy["name"] != OWN or policy[part] is None:
        continue
      name = f"audit: defense {label!r}" + (" (surrogate)" if part == "surrogate" else "")
      predict = attacks_lib.keyed(policy[part])
      with checks.tracing(name), _asking_for_keys(name, policy[part]):
        found = jax.eval_shape(predict, self._keys_of_rows(2), images)
      got = [list(leaf.shape) for leaf in jax.tree.leaves(found)]
      if len(got) != 1 or len(got[0]) != 2 or got[0][0] != 2:
        raise ValueError(
          f"{name} must return probabilities [N, K] = [2, K] for images {list(shape)}, got "
          f"{', '.join(map(str, got))}; it calls the network itself."
        )
      one_row = self._keys_of_rows(1), self.images.shape[1:]
      # A lambda each time: JAX remembers what it has traced.
      if len({network_digest(lambda *a: predict(*a), *one_row) for _ in range(2)}) > 1:  # noqa: B023
        raise ValueError(
          f"{name} draws its own random numbers (NumPy, random), which compiling freezes, so "
          "every attack would know them. Take keys, (keys[N], images) -> probabilities, and draw "
          "from them (jax.random)."
        )

  def flags(self, policy: Mapping[str, Any]) -> list[Flag]:
    """Returns what is wrong with the gradient that attacks through a defense follow.

    The draws of a random defense are fixed for it, so that it answers twice in the same way.
    """

    def apply_fn(arguments: Any, images: jax.Array) -> jax.Array:
      target = self._target(policy, arguments)
      if policy["name"] == "none":
        return target.logits_fn(images)
      predictor = attackable(target, samples=min(self.plan.samples, CHECKED_DRAWS))
      return attacks_lib.keyed(predictor)(self._keys_of_rows(len(images)), images)

    return evaluate.sanity_flags(
      apply_fn,
      self._arguments,
      self._pictures,
      batch_size=self.batch_size,
      mesh=self.mesh,
      store=self._store,
      network=self._piece(policy, "sanity", None),
    )

  def hides_rounding(self, policy: Mapping[str, Any]) -> bool:
    """Returns whether an attack through BPDA differs from one without."""
    target = self._target(policy, self._arguments)
    return hides_rounding(target, self._keys_of_rows(1), jnp.asarray(self.images[:1], jnp.float32))

  def _keys_of_rows(self, count: int) -> jax.Array:
    return keys.example_keys(self._root, keys.Stream.DEFEND, jnp.arange(count))

  def attack_all(
    self, policy: Mapping[str, Any], chosen: Sequence[Attack]
  ) -> Iterator[tuple[str, Outcome]]:
    """Yields the outcome on clean images, then that of every attack that makes sense."""
    outcome = self._outcome(policy, CLEAN, lambda: self.images)
    yield CLEAN, outcome
    worst = outcome
    for attack in chosen:
      if not applies(attack, policy, norm=self.plan.norm):
        continue
      rows = np.arange(len(self.labels))
      if self.plan.survivors_only:
        rows = np.flatnonzero(worst.correct.any(axis=0))
      make = functools.partial(self._onto, worst.images, policy, attack, rows)
      outcome = self._outcome(policy, attack.word, make, rows)
      yield attack.word, outcome
      worst = pick_worst([worst, outcome])

  def worst_case(self, policy: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Outcome:
    """Scores the worst image of each example with draws that had no part in choosing it."""
    chosen = pick_worst(list(outcomes.values()))
    if policy["name"] == "none":
      return chosen
    return Outcome(chosen.images, self._score(policy, chosen.images, first=self.plan.redraws))

  def _onto(
    self, worst: np.ndarray, policy: Mapping[str, Any], attack: Attack, rows: np.ndarray
  ) -> np.ndarray:
    """Returns the worst images so far, those in `rows` attacked instead."""
    images = worst.copy()
    if len(rows):
      images[rows] = self._crafted(policy, attack, rows=rows)
    return images

  def _outcome(
    self,
    policy: Mapping[str, Any],
    word: str,
    make: Callable[[], np.ndarray],
    rows: np.ndarray | None = None,
  ) -> Outcome:
    """Returns what the store holds, or makes it."""
    piece = self._piece(policy, word, rows)
    if kept := self._store.read(piece):
      return Outcome(kept["images"], kept["correct"])
    begin = time.perf_counter()
    images = make()
    outcome = Outcome(images, self._score(policy, images, first=0))
    seconds = time.perf_counter() - begin
    self._store.write(piece, outcome._asdict(), {"unit": f"audit:{word}", "seconds": seconds})
    return outcome

  def _piece(self, policy: Mapping[str, Any], word: str, rows: np.ndarray | None) -> str:
    """Returns a hash of everything that an outcome depends on."""
    if self._store.folder is None:
      return ""
    if self._identity is None:
      variables, surrogate, pool = self._arguments
      shape = self.images.shape[1:]
      parts = [network_digest(self._apply_fn, variables, shape)]
      if surrogate is not None:
        parts.append(network_digest(self._surrogate_fn, surrogate, shape))
      arrays = [self.images, self.labels, self.ids, *map(np.asarray, jax.tree.leaves(pool))]
      self._identity = digest(*parts, *arrays, self._seed, dataclasses.asdict(self.plan))
    rows_of = [] if rows is None else rows.tolist()
    return digest(self._identity, self._definition(policy), word, rows_of)

  def _definition(self, policy: Mapping[str, Any]) -> Any:
    """Returns a policy as plain values: functions by what they compute."""
    if policy["name"] != OWN:
      return dict(policy)
    key, shape = self._keys_of_rows(1), self.images.shape[1:]
    found = {"name": OWN}
    for part in ("predict", "surrogate"):
      if policy[part] is not None:
        found[part] = network_digest(attacks_lib.keyed(policy[part]), key, shape)
    return found

  def _crafted(self, policy: Mapping[str, Any], attack: Attack, *, rows: np.ndarray) -> np.ndarray:
    """Runs an attack on some rows; those that do not look at the defense run once for all."""
    if attack.word in self._shared:
      return self._shared[attack.word][rows]
    is_shared = attack.kind in SHARED
    seen = UNDEFENDED if is_shared else policy
    own_rows = np.arange(len(self.labels)) if is_shared else rows

    def body(arguments: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
      target = self._target(seen, arguments)
      return craft(key, target, attack, self.plan, images, labels)

    run = self._compile(body, keys.Stream.ATTACK)
    found = self._over_batches(run, self.images, own_rows, zlib.crc32(attack.word.encode()) >> 1)
    self._check(found, own_rows, attack.word)
    if not is_shared:
      return found
    self._shared[attack.word] = found
    return found[rows]

  def _score(self, policy: Mapping[str, Any], images: np.ndarray, *, first: int) -> np.ndarray:
    """Returns `bool[redraws, N]`: which draws of the defense classify which images correctly."""
    redraws = 1 if policy["name"] == "none" else self.plan.redraws

    def body(arguments: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
      predict = defended(self._target(policy, arguments))
      found = predict(key, images)
      is_right = ~attacks_lib.fooled(found, labels)
      if policy["name"] != OWN:
        return is_right
      # 2, so that the host can say so: outputs that are no probabilities.
      is_sound = (found >= 0).all(-1) & (jnp.abs(found.sum(-1) - 1) < PROBABILITY_TOLERANCE)
      return jnp.where(is_sound, is_right, 2)

    name = repr(dict(policy))
    if name not in self._compiled:
      self._compiled[name] = self._compile(body, keys.Stream.DEFEND)
    run, rows = self._compiled[name], np.arange(len(self.labels))
    draws = range(first, first + redraws)
    found = np.stack([self._over_batches(run, images, rows, draw) for draw in draws])
    if policy["name"] == OWN and (found == 2).any():
      raise ValueError(
        "audit: a defense of your own must return probabilities [N, K]: non-negative, each row "
        "adding up to 1; apply jax.nn.softmax to logits."
      )
    return found.astype(bool)

  def _target(self, policy: Mapping[str, Any], arguments: Any) -> Target:
    variables, surrogate, pool = arguments
    network = functools.partial(self._apply_fn, variables)
    other = network if surrogate is None else functools.partial(self._surrogate_fn, surrogate)
    return Target(network, other, policy, pool)

  def _compile(self, body: Callable, stream: keys.Stream) -> Callable[..., jax.Array]:
    """Compiles `body`; each device works on its own images."""
    mapped = mesh_lib.over_examples(body, self.mesh)

    def keyed(arguments: Any, epoch: Any, ids: Any, images: Any, labels: Any) -> jax.Array:
      key = keys.example_keys(self._root, stream, ids, epoch=epoch)
      return mapped(arguments, key, images, labels)

    return jax.jit(keyed, out_shardings=mesh_lib.replicated(self.mesh))

  def _over_batches(
    self, run: Callable[..., jax.Array], images: np.ndarray, rows: np.ndarray, epoch: int
  ) -> np.ndarray:
    """Runs a compiled function on some rows, in batches of one size."""
    sharding, parts = mesh_lib.batch_sharding(self.mesh), []
    for start in range(0, len(rows), self.batch_size):
      if self.should_stop():
        kept = f"kept in {self._store.folder}" if self._store.folder else "not kept"
        raise Stopped(f"audit: stopped on request; finished attacks are {kept}.")
      part = rows[start : start + self.batch_size]
      padded = np.pad(part, (0, self.batch_size - len(part)), mode="edge")
      chunk = (self.ids[padded], images[padded], self.labels[padded])
      out = run(self._arguments, np.int32(epoch), *jax.device_put(chunk, sharding))
      parts.append(np.asarray(out)[: len(part)])
    return np.concatenate(parts)

  def _check(self, found: np.ndarray, rows: np.ndarray, word: str) -> None:
    """An attack outside the ball or the pixel range would prove nothing."""
    delta = (found - self.images[rows]).reshape(len(found), -1)
    order = np.inf if self.plan.norm == "linf" else 2
    distance = float(np.linalg.norm(delta, ord=order, axis=1).max())
    inside = found.min() >= -_TOLERANCE and found.max() <= 1 + _TOLERANCE
    if not (distance <= self.plan.epsilon + _TOLERANCE and inside):
      raise RuntimeError(
        f"audit: attack {word} left the ball: distance {distance:g} of {self.plan.epsilon:g}, "
        f"pixels in [{found.min():g}, {found.max():g}]."
      )


def _all_outcomes(
  runner: Runner,
  policies: Mapping[str, Mapping[str, Any]],
  chosen: Sequence[Attack],
  *,
  name: str,
  should_stop: Callable[[], bool] | None,
) -> Iterator[tuple[str, dict[str, Outcome], list[Flag]]]:
  """Yields every defense, what each attack and the worst of them did to it, and its flags."""
  raised, attacks = {}, {}
  for label, policy in policies.items():
    raised[label] = _of_defense(label, runner.flags(policy))
    attacks[label] = _attacks(runner, policy, chosen, raised[label])
  steps, done = sum(1 + len(words) for words in attacks.values()), 0
  asking, bar = interrupt.asking(should_stop), Progress(f"audit {name}", steps, unit="attacks")
  with asking as runner.should_stop, bar:
    for label, policy in policies.items():
      outcomes: dict[str, Outcome] = {}
      for word, outcome in runner.attack_all(policy, attacks[label]):
        outcomes[word] = outcome
        done += 1
        bar.update(done, units=1, metrics={f"{label} {word} %": 100 * outcome.accuracy}, force=True)
      accuracies = {word: outcome.accuracy for word, outcome in outcomes.items()}
      is_defended = policy["name"] != UNDEFENDED["name"]
      weak = doubts(attacks[label], runner.plan, accuracies, is_defended=is_defended)
      flags = [*_answered(raised[label], outcomes), *_of_defense(label, weak)]
      outcomes[WORST] = runner.worst_case(policy, outcomes)
      yield label, outcomes, flags


def _of_defense(label: str, flags: Sequence[Flag]) -> list[Flag]:
  """Returns flags that name the defense, after printing them."""
  found = [
    dataclasses.replace(
      flag, name=f"{PREFIX}/{label}/{flag.name}", message=f"Defense {label}: {flag.message}"
    )
    for flag in flags
  ]
  for flag in found:
    log.info(str(flag))
  return found


def _answered(flags: Sequence[Flag], outcomes: Mapping[str, Outcome]) -> list[Flag]:
  """Returns flags of a masked gradient with what was done if attacks through BPDA got further."""
  further = any(
    outcomes[twin].accuracy < outcome.accuracy
    for word, outcome in outcomes.items()
    if (twin := f"{word}-bpda") in outcomes
  )
  found = [
    dataclasses.replace(flag, remedy=REPLACED) if further and _hides(flag) else flag
    for flag in flags
  ]
  for flag in found:
    if flag.remedy == REPLACED:  # printed before, with what to try
      log.info(str(flag))
  return found


def _hides(flag: Flag) -> bool:
  return flag.name.rpartition("/")[2] in evaluate.MASKED_GRADIENTS


def _attacks(
  runner: Runner, policy: Mapping[str, Any], chosen: Sequence[Attack], raised: Sequence[Flag]
) -> list[Attack]:
  """Returns the attacks that make sense, and those through BPDA where the gradient is masked."""
  sensible = [attack for attack in chosen if applies(attack, policy, norm=runner.plan.norm)]
  if not any(map(_hides, raised)) or not runner.hides_rounding(policy):
    return sensible
  return with_twins(sensible)


def pick_worst(outcomes: Sequence[Outcome]) -> Outcome:
  """Returns, for each example, the image (and its draws) that fooled the most draws.

  Of equals the attack with the lower accuracy over all examples is taken: a clean image that two
  draws happen to get wrong says less than an attacked one.
  """
  outcomes = sorted(outcomes, key=lambda outcome: outcome.accuracy)
  rates = np.stack([outcome.correct.mean(axis=0) for outcome in outcomes])
  chosen, columns = rates.argmin(axis=0), np.arange(rates.shape[1])
  return Outcome(
    np.stack([outcome.images for outcome in outcomes])[chosen, columns],
    np.stack([outcome.correct for outcome in outcomes])[chosen, :, columns].T,
  )


def claim_of(outcomes: Mapping[str, Outcome]) -> str:
  """Returns the word of the lowest accuracy: what may be claimed, and what reached it."""
  return min(outcomes, key=lambda word: outcomes[word].accuracy)


def interval_of(outcome: Outcome, *, confidence: float) -> tuple[float, float]:
  """Returns Wilson's interval of the accuracy in %, with one trial per image.

  The mean over several draws of an image varies less than a single trial, so the interval is rather
  too wide than too narrow.
  """
  count, value = outcome.correct.shape[1], outcome.accuracy
  ends = metrics.wilson(round(value * count), count, confidence=confidence)
  return 100 * min(ends.low, value), 100 * max(ends.high, value)


def place_of(pictures: Examples, confidence: float) -> evaluate.Place:
  """Returns what all metrics on these pictures share."""
  return evaluate.Place(pictures.dataset, pictures.split, pictures.source, confidence)


def metrics_of(
  label: str, outcomes: Mapping[str, Outcome], place: evaluate.Place
) -> Iterator[Metric]:
  """Yields every accuracy in %."""
  for word, outcome in [*outcomes.items(), (CLAIM, outcomes[claim_of(outcomes)])]:
    yield evaluate.metric(
      place,
      f"{PREFIX}/{label}/{word}",
      100 * outcome.accuracy,
      count=outcome.correct.shape[1],
      ends=interval_of(outcome, confidence=place.confidence),
      interval="wilson",
      better="higher",
    )
