# SPDX-License-Identifier: Apache-2.0
"""`--job=show_augmentation --epoch=E --example=I`: what training does to one example.

Needs no checkpoint: every draw follows from the config, the epoch and the example's id. The batch
of that epoch is put together as in training, so partners of mixes are the true ones.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import augment, data, files, losses, masks, train
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.keys import Stream, example_keys, split_each
from mixboost_jax.runtime import environment, log, workdir
from mixboost_jax.schema import Settings
from mixboost_jax.train import augmentation
from mixboost_jax.train.augmentation import POLICIES, policy_arrays
from mixboost_jax.train.objectives import pick


@dataclasses.dataclass(frozen=True)
class Visit:
  """The one time in an epoch when training takes an example."""

  step: int
  row: int  # in its (micro-)batch
  rows: np.ndarray  # of the training split: the whole (micro-)batch


@dataclasses.dataclass(frozen=True)
class Sight:
  """What training saw of an example: float32 pictures by name, and how they came about."""

  visit: Visit
  label: int
  account: list[dict[str, Any]]
  views: dict[str, np.ndarray]


def run(item: Run, *, epoch: int, example: int) -> None:
  """Prints the operations and writes the pictures to `augmentation/` in the run's folder.

  A learned mask fill is shown as it is at the start of the run.

  Raises:
    ValueError: if the run does not take that example in that epoch.
  """
  seen = look(item, epoch=epoch, example=example)
  if not log.is_primary():
    return
  class_name = item.dataset.class_names[seen.label]
  log.info(
    f"{item.dataset.title}, example {example} (class {class_name}), epoch {epoch}: "
    f"step {seen.visit.step}, row {seen.visit.row} of {len(seen.visit.rows)}"
  )
  for entry in seen.account or [{"op": "nothing"}]:
    log.info(f"  {describe(entry)}")
  with workdir.open_run(item.folder, item.settings, versions=environment.versions()) as place:
    folder = place.path / "augmentation" / f"epoch{epoch}_example{example}"
    write(folder, seen)
  log.info(f"wrote {folder}: {', '.join(seen.views)} (.png, exact values in views.npz)")


def write(folder: pathlib.Path, seen: Sight) -> None:
  """Writes a PNG per view, an enlarged one of all, the float32 values, and the account."""
  for name, image in seen.views.items():
    files.write_strip(folder / f"{name}.png", image[None], height=1)  # pixel for pixel
  same = [image for image in seen.views.values() if image.shape == seen.views["augmented"].shape]
  files.write_strip(folder / "enlarged.png", np.stack(same), height=192)
  buffer = io.BytesIO()
  np.savez(buffer, **seen.views)  # pyright: ignore[reportArgumentType]
  files.write_bytes(folder / "views.npz", buffer.getvalue())
  files.write_json(folder / "account.json", seen.account)


def look(item: Run, *, epoch: int, example: int) -> Sight:
  """Returns what training sees of an example (by its id) in an epoch, counted from 0."""
  trainer, parts = item.trainer, item.trainer.parts
  visit = find(trainer, epoch=epoch, example=example)

  @jax.jit
  def batch_views(apply: Any, batch: data.Batch, root: jax.Array) -> Any:
    batch = parts.shard(batch)
    keys, first = (example_keys(root, Stream.AUGMENT, batch.ids, epoch=e) for e in (epoch, 0))
    labels = losses.one_hot(batch.labels, parts.num_classes)
    images, _ = apply(keys, batch.images, labels, epoch, first)
    mask_keys = example_keys(root, Stream.MASK, batch.ids, epoch=epoch)
    masked = _masked(parts, mask_keys, images)
    return batch, labels, keys, {"original": batch.images, "augmented": images, **masked}

  batch = trainer.feed.batch(visit.rows, epoch=epoch)
  batch, labels, keys, views = batch_views(parts.augment, batch, trainer.root)
  account = _account(item, visit, keys, (batch.images, labels), epoch)
  names = ["original", "augmented", *sorted(set(views) - {"original", "augmented"})]
  own = dict(pair for name in names for pair in _own(name, views[name], visit))
  return Sight(visit, int(batch.labels[visit.row]), account, own)


def _masked(parts: Any, mask_keys: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
  """Returns the masked views, without those of adversarial pictures, which need the network."""
  of = len(images) // len(mask_keys)
  shown = tuple(picture for picture in parts.objective.masked if picture < of)
  if not shown:
    return {}
  ranks = jnp.repeat(masks.cell_ranks(mask_keys, grid=parts.grid), len(shown), axis=0)
  pictures = pick(images, shown, of=of)
  return {
    f"masked_keep_{rate:g}": masks.apply(
      pictures, masks.keep_lowest(ranks, keep_rate=rate), fill=parts.fill
    )
    for rate in parts.objective.keep_rates
  }


def _account(item: Run, visit: Visit, keys: jax.Array, batch: Any, epoch: int) -> list[Any]:
  """Lists flip, crop and policy; several draws of the policy (a consistency term) one by one."""
  settings, trainer = item.settings, item.trainer
  active = policy_active(trainer, epoch)
  policy = settings.augment.policy if active else {"name": "none"}
  resources: dict[str, Any] = {
    "shape": trainer.feed.size_of(int(visit.rows[visit.row])),
    "row": visit.row,
    "table": POLICIES,
    **(policy_arrays(settings, item.dataset) if active else {}),
  }
  num_copies = 2 if settings.objective.jsd_weight > 0 else 0
  whole = whole_policy(settings, {"name": "none"} if num_copies else policy)
  account = []
  if settings.augment.alternate_flip:
    first = example_keys(trainer.root, Stream.AUGMENT, jnp.asarray(trainer.feed.ids[visit.rows]))
    flip_keys = split_each(first, len(whole["steps"]))[0]
    applied = bool(augment.draw_flips(flip_keys)[visit.row]) ^ (epoch % 2 == 1)
    account.append({"op": "flip", "applied": applied})
    batch = (augment.alternating_flip(flip_keys, batch[0], epoch=epoch), batch[1])
  account += augment.explain(keys, whole, batch=batch, **resources)
  if num_copies:
    policy_keys = split_each(keys, len(whole["steps"]))[-1]
    for number, copy_keys in enumerate(split_each(policy_keys, num_copies), start=1):
      account.append({"op": "copy", "number": number})
      account += augment.explain(copy_keys, policy, **resources)
  ids = trainer.feed.ids[visit.rows]
  account = [_with_ids(entry, ids) for entry in account]
  if trainer.parts.perturb is not None:
    account.append({"op": "attack", "depends_on": "the network: not shown"})
  if trainer.parts.mix_hidden is not None:
    account.append({"op": "manifold_mixup", "depends_on": "hidden layers: not shown"})
  return account


def policy_active(trainer: train.Trainer, epoch: int) -> bool:
  """Tells whether the policy is switched on in this epoch (config.augment.start, end, ...)."""
  num_epochs = max(1, round(trainer.num_steps / trainer.parts.steps_per_epoch))
  return bool(augmentation.is_on(trainer.settings.augment, epoch=epoch, num_epochs=num_epochs))


def _own(name: str, images: Any, visit: Visit) -> list[tuple[str, np.ndarray]]:
  """Picks the example's rows of a view; several pictures of one example are neighbouring rows."""
  each = len(images) // len(visit.rows)
  rows = np.asarray(images[visit.row * each : (visit.row + 1) * each])
  return [(name if i == 0 else f"{name}_copy{i}", row) for i, row in enumerate(rows)]


def find(trainer: train.Trainer, *, epoch: int, example: int) -> Visit:
  """Finds the step of an epoch that takes an example.

  Raises:
    ValueError: if there is no such example or epoch, or the epoch leaves the example out.
  """
  parts, ids = trainer.parts, trainer.feed.ids
  places = np.flatnonzero(ids == example)
  if not len(places):
    raise ValueError(
      f"--example={example}: not a training example; their {len(ids)} ids lie between {ids.min()} "
      f"and {ids.max()}."
    )
  first = epoch * parts.steps_per_epoch
  if epoch < 0 or first >= trainer.num_steps:
    last = (trainer.num_steps - 1) // parts.steps_per_epoch
    raise ValueError(f"--epoch={epoch}: the run has the epochs 0 to {last}.")
  order = np.asarray(trainer.order(trainer.root, jnp.int32(first)))
  position = int(np.flatnonzero(order == places[0])[0])
  step = first + position // parts.batch_size
  if position >= parts.steps_per_epoch * parts.batch_size or step >= trainer.num_steps:
    raise ValueError(
      f"--epoch={epoch}: leaves example {example} out: every batch is full, and the run ends after "
      f"step {trainer.num_steps - 1}; choose another epoch or example."
    )
  micro_batch = parts.batch_size // parts.accumulate
  start = position // micro_batch * micro_batch
  return Visit(step, position - start, order[start : start + micro_batch])


def whole_policy(settings: Settings, policy: Mapping[str, Any]) -> dict[str, Any]:
  """Returns flip, crops and `policy` as one policy, with the keys that training gives to each.

  An alternating flip, which has keys of its own, is left out.
  """
  chosen = settings.augment
  members: list[Mapping[str, Any]] = []
  if chosen.flip:
    members.append({"name": "none" if chosen.alternate_flip else "random_flip"})
  if chosen.crop_padding:
    crop = {"padding": chosen.crop_padding, "border": augmentation.BORDERS[chosen.crop_mode]}
    members.append({"name": "random_crop", **crop})
  if chosen.resized_crop:
    members.append({"name": "random_resized_crop", "size": chosen.resized_crop})
  return {"name": "compose", "steps": (*members, policy)}


def describe(entry: Mapping[str, Any]) -> str:
  """Returns an entry of an account as one line."""
  words = [str(entry["op"])]
  for name, value in entry.items():
    if name == "magnitude":
      words.append(f"{value:g}")
    elif name == "unit":
      words.append(str(value))
    elif name == "steps":
      words.append(f"[{'; '.join(map(describe, value))}]")
    elif name == "original":
      words.append(f"the original after {describe(value)}")
    elif name != "op":
      words.append(f"{name}={value}")
  return " ".join(words)


def _with_ids(entry: dict[str, Any], ids: np.ndarray) -> dict[str, Any]:
  """Adds the ids of the examples that an entry names by their rows."""
  rows = {name: row for name, row in entry.items() if name.endswith("_row")}
  named = {f"{name.removesuffix('_row')}_id": int(ids[row]) for name, row in rows.items()}
  return json.loads(json.dumps({**entry, **named}))
