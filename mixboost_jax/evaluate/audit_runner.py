# SPDX-License-Identifier: Apache-2.0
"""Runs attacks on defenses, and defended predictions, in batches over all devices."""

import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import attacks as attacks_lib
from mixboost_jax import defenses, keys
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import audit_attacks, sanity, scoring
from mixboost_jax.evaluate import examples as examples_lib
from mixboost_jax.evaluate.audit_attacks import Target
from mixboost_jax.evaluate.audit_outcomes import CLEAN, Outcome, pick_worst
from mixboost_jax.evaluate.audit_plan import OWN, SHARED, Attack, Plan, applies
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.session import Session
from mixboost_jax.evaluate.store import Store, digest, network_digest
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.results import Flag

CHECKED_DRAWS = 3
"""Draws of a random defense, fixed, whose gradient is checked."""
PROBABILITY_TOLERANCE = 1e-2
_TOLERANCE = 1e-5


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
    self._apply_fn, variables = scoring.open_up(logits_fn, shape)
    self._surrogate_fn, surrogate = (
      (self._apply_fn, None) if surrogate_fn is None else scoring.open_up(surrogate_fn, shape)
    )
    replicated = mesh_lib.replicated(mesh)
    self._arguments = jax.device_put((variables, surrogate, pool), replicated)
    self._root = keys.root_key(seed)
    self._shared: dict[str, np.ndarray] = {}
    self._compiled: dict[str, Callable[..., jax.Array]] = {}
    self._identity: str | None = None
    self._seed = seed

  def flags(self, policy: Mapping[str, Any]) -> list[Flag]:
    """Returns what is wrong with the gradient that attacks through a defense follow.

    The draws of a random defense are fixed for it, so that it answers twice in the same way.
    """

    def apply_fn(arguments: Any, images: jax.Array) -> jax.Array:
      target = self._target(policy, arguments)
      if policy["name"] == "none":
        return target.logits_fn(images)
      predictor = audit_attacks.attackable(target, samples=min(self.plan.samples, CHECKED_DRAWS))
      return attacks_lib.keyed(predictor)(self._keys_of_rows(len(images)), images)

    scorer = scoring.Scorer(apply_fn, batch_size=self.batch_size, mesh=self.mesh)
    session = Session(scorer, self._arguments, self._pictures, {})
    examples_lib.check_labels(self._pictures, session.num_classes)
    return sanity.flags(session, self._store, self._piece(policy, "sanity", None))

  def hides_rounding(self, policy: Mapping[str, Any]) -> bool:
    """Returns whether an attack through BPDA differs from one without."""
    target = self._target(policy, self._arguments)
    return audit_attacks.hides_rounding(
      target, self._keys_of_rows(1), jnp.asarray(self.images[:1], jnp.float32)
    )

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
      make = functools.partial(self._crafted, policy, attack)
      rows = np.arange(len(self.labels))
      if self.plan.survivors_only:
        rows = np.flatnonzero(worst.correct.any(axis=0))
        make = functools.partial(self._onto_survivors, worst.images, make)
      outcome = self._outcome(policy, attack.word, functools.partial(make, rows=rows), rows)
      yield attack.word, outcome
      worst = pick_worst([worst, outcome])

  def worst_case(self, policy: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Outcome:
    """Scores the worst image of each example with draws that had no part in choosing it."""
    chosen = pick_worst(list(outcomes.values()))
    if policy["name"] == "none":
      return chosen
    return Outcome(chosen.images, self._score(policy, chosen.images, first=self.plan.redraws))

  def _onto_survivors(
    self, worst: np.ndarray, make: Callable[..., np.ndarray], *, rows: np.ndarray
  ) -> np.ndarray:
    images = worst.copy()
    if len(rows):
      images[rows] = make(rows=rows)
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
    shared = attack.kind in SHARED
    if shared and attack.word in self._shared:
      return self._shared[attack.word][rows]
    if shared:
      policy, rows_run = {"name": "none"}, np.arange(len(self.labels))
    else:
      rows_run = rows

    def body(arguments: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
      target = self._target(policy, arguments)
      return audit_attacks.craft(key, target, attack, self.plan, images, labels)

    run = self._compile(body, keys.Stream.ATTACK)
    found = self._over_batches(run, self.images, rows_run, zlib.crc32(attack.word.encode()) >> 1)
    self._check(found, rows_run, attack.word)
    if shared:
      self._shared[attack.word] = found
      return found[rows]
    return found

  def _score(self, policy: Mapping[str, Any], images: np.ndarray, *, first: int) -> np.ndarray:
    """Returns `bool[redraws, N]`: which draws of the defense classify which images correctly."""
    redraws = 1 if policy["name"] == "none" else self.plan.redraws

    def body(arguments: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
      predict = audit_attacks.defended(self._target(policy, arguments))
      found = predict(key, images)
      if policy["name"] == OWN:
        # Whole rows of NaN, so that the host can say so: outputs that are no probabilities.
        is_sound = (found >= 0).all(-1) & (jnp.abs(found.sum(-1) - 1) < PROBABILITY_TOLERANCE)
        return jnp.where(is_sound, ~attacks_lib.fooled(found, labels), 2)
      return ~attacks_lib.fooled(found, labels)

    name = repr(dict(policy))
    if name not in self._compiled:
      self._compiled[name] = self._compile(body, keys.Stream.DEFEND)
    run, rows = self._compiled[name], np.arange(len(self.labels))
    found = np.stack(
      [self._over_batches(run, images, rows, first + draw) for draw in range(redraws)]
    )
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
