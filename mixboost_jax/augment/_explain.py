# SPDX-License-Identifier: Apache-2.0
"""What a policy did to one example, read off the keys: operations, magnitudes, weights, partners.

The same draw functions as in training are called, so the account is what happened, not a guess.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PRNGKey, PRNGKeys, SoftLabels
from mixboost_jax.augment._entry import Account, Scene
from mixboost_jax.augment._policy import (
  AUGMENTATIONS,
  Policy,
  Table,
  arrays_for,
  build,
  keywords_of,
  refuse,
)


@checks.inputs()
def explain(
  key: AnyKey,
  policy: Policy,
  *,
  shape: tuple[int, int],
  row: int = 0,
  batch: tuple[Images, SoftLabels] | None = None,
  table: Table = AUGMENTATIONS,
  **resources: Any,
) -> list[dict[str, Any]]:
  """Lists what `build(policy, **resources)` does to one example.

  Args:
    key: the example's own key, as `keys.example_keys` makes it; or those of its whole batch.
    policy: as for `build`.
    shape: (height, width) of the picture.
    row: which example of the batch.
    batch: pictures and soft labels of the batch. Without it, augmentations that mix examples say
      only that they do; with it, they name the partner's row.
    table: as for `build`.
    **resources: as for `build`.

  Returns:
    One entry per operation, in order: `op` and its magnitudes with their units.

  Raises:
    ValueError: if there is no such row, or the policy is wrong or lacks a resource.
  """
  refuse(policy, table)
  each = key[None] if key.ndim == 0 else key
  if not 0 <= row < len(each):
    raise ValueError(f"explain: expected a row in [0, {len(each)}), got {row}.")
  scene = Scene(each, row, shape, None if batch is None else lambda: batch)
  return _Teller(table, resources).account(scene, policy)


@dataclasses.dataclass(frozen=True)
class _Teller:
  """Follows a policy with what it was built with."""

  table: Table
  resources: Mapping[str, Any]

  def account(self, scene: Scene, policy: Policy) -> Account:
    """Lists what the policy did to the example."""
    name = policy["name"]
    if name == "none":
      return []
    if name == "compose":
      return self._compose(scene, tuple(policy["steps"]))
    entry = self.table.get(name)
    if scene.batch is None and ((entry and entry.mixes) or policy.get("per") == "batch"):
      depends = {"depends_on": "the other examples of the batch"}
      return [{"op": name, **keywords_of(policy), **depends}]
    if entry:
      arrays = arrays_for(name, entry, self.resources)
      return entry.describe(scene, **{**entry.keywords, **keywords_of(policy), **arrays})
    draw, rest = keys.split_each(scene.each, 2)
    own = _deciding(draw, scene.row, policy)
    if name == "choice":
      return self._choice(scene, own, rest, policy)
    applied = policy["p"] > 0 and bool(jax.random.uniform(own) < policy["p"])
    return self.account(_with_keys(scene, rest), policy["policy"]) if applied else []

  def _compose(self, scene: Scene, members: tuple[Policy, ...]) -> Account:
    account: Account = []
    parts = keys.split_each(scene.each, len(members)) if members else ()
    for part, member in zip(parts, members, strict=True):
      scene = _with_keys(scene, part)
      account += self.account(scene, member)
      scene = self._after(scene, member)
    return account

  def _choice(self, scene: Scene, own: PRNGKey, rest: PRNGKeys, policy: Policy) -> Account:
    options = tuple(policy["options"])
    chosen = int(jax.random.randint(own, (), 0, len(options)))
    # One choice for a batch hands its keys on whole; a choice per example splits them.
    part = rest if _is_shared(policy) else keys.split_each(rest, len(options))[chosen]
    return self.account(_with_keys(scene, part), options[chosen])

  def _after(self, scene: Scene, policy: Policy) -> Scene:
    """Returns the batch as `policy` leaves it; its pictures are made when somebody looks."""
    entry, before = self.table.get(policy["name"]), scene.batch
    if entry and entry.side:
      scene = dataclasses.replace(scene, shape=(policy[entry.side],) * 2)
    if before is None:
      return scene
    run, each = build(policy, table=self.table, **self.resources), scene.each
    return dataclasses.replace(scene, batch=lambda: run(each, *before()))


def _with_keys(scene: Scene, each: PRNGKeys) -> Scene:
  """Returns the same batch with the keys that a member of a composition gets."""
  return dataclasses.replace(scene, each=each)


def _deciding(each: PRNGKeys, row: int, policy: Policy) -> PRNGKey:
  """Returns the key of a decision of the batch, or of the example."""
  return keys.for_batch(each) if _is_shared(policy) else each[row]


def _is_shared(policy: Policy) -> bool:
  return policy.get("per", "example") == "batch"
