# SPDX-License-Identifier: Apache-2.0
"""What a policy did to one example, read off the keys: operations, magnitudes, weights, partners.

The same draw functions as in training are called, so the account is what happened, not a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, SoftLabels
from mixboost_jax.augment._entry import Account, Scene
from mixboost_jax.augment._policy import (
  AUGMENTATIONS,
  Policy,
  Table,
  arrays_for,
  build,
  entries_in,
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

  ```python
  account = augment.explain(key, {"name": "random_crop", "padding": 4}, shape=(32, 32))
  print(account)  # e.g. [{'op': 'crop', 'down': -3, 'right': 1, 'unit': 'pixels'}]
  ```

  Args:
    key: the example's own key, as `keys.example_keys` makes it; or those of its whole batch.
    policy: as `table` and `resources`, what `build` got.
    shape: (height, width) of the picture.
    row: which example of the batch.
    batch: pictures and soft labels of the batch. Without it, augmentations that mix examples say
      only that they do; with it, they name the partner's row.
    table: see `policy`.
    **resources: see `policy`.

  Returns:
    One entry per operation, in order: `op` and its magnitudes with their units.

  Raises:
    ValueError: if there is no such row, or the policy is wrong or lacks a resource.
  """
  refuse(policy, table)
  each = key[None] if key.ndim == 0 else key
  if not 0 <= row < len(each):
    raise ValueError(f"explain: expected a row in [0, {len(each)}), got {row}.")
  scene = Scene(each, row, (shape[0], shape[1]), None if batch is None else lambda: batch)
  return _Teller(table, resources).account(scene, policy)


@dataclass(frozen=True)
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
    entry, shared = self.table.get(name), policy.get("per") == "batch"
    if scene.batch is None and ((entry and entry.mixes) or shared):
      depends = {"depends_on": "the other examples of the batch"}
      return [{"op": name, **keywords_of(policy), **depends}]
    if entry:
      arrays = arrays_for(name, entry, self.resources)
      given = {**entry.keywords, **keywords_of(policy)}
      if entry.describe is None:
        return [{"op": policy["name"], **given}]
      return entry.describe(scene, **given, **arrays)
    draw, rest = keys.split_each(scene.each, 2)
    deciding = keys.for_batch(draw) if shared else draw[scene.row]
    if name == "with_probability":
      applied = policy["p"] > 0 and bool(jax.random.uniform(deciding) < policy["p"])
      return self.account(replace(scene, each=rest), policy["policy"]) if applied else []
    options = tuple(policy["options"])
    chosen = int(jax.random.randint(deciding, (), 0, len(options)))
    # One choice for a batch hands its keys on whole; a choice per example splits them.
    part = rest if shared else keys.split_each(rest, len(options))[chosen]
    return self.account(replace(scene, each=part), options[chosen])

  def _compose(self, scene: Scene, members: tuple[Policy, ...]) -> Account:
    account: Account = []
    parts = keys.split_each(scene.each, len(members)) if members else ()
    for part, member in zip(parts, members, strict=True):
      scene = replace(scene, each=part)
      account += self.account(scene, member)
      scene = self._after(scene, member)
    return account

  def _after(self, scene: Scene, policy: Policy) -> Scene:
    """Returns the batch as `policy` leaves it; its pictures are made when somebody looks."""
    for entry, member in entries_in(policy, table=self.table):
      if entry.side:
        scene = replace(scene, shape=({**entry.keywords, **member}[entry.side],) * 2)
    before = scene.batch
    if before is None:
      return scene
    run, each = build(policy, table=self.table, **self.resources), scene.each
    return replace(scene, batch=lambda: run(each, *before()))
