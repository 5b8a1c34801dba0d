# SPDX-License-Identifier: Apache-2.0
"""`--job=audit`: attacks the defenses of a trained network and writes `audit.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixboost_jax import data, defenses, evaluate
from mixboost_jax import settings as settings_lib
from mixboost_jax.audit import plan as plan_lib
from mixboost_jax.audit.figures import measure
from mixboost_jax.audit.plan import Plan, policy_of
from mixboost_jax.audit.run import audit
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import interrupt, log, results, workdir
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.schema import Audit, Settings

FILE, FOLDER = "audit.json", "audit"


def check(item: Run) -> None:
  """Raises ValueError if the preset does not have one of the defenses."""
  policies_of(item.settings.audit, preset_of(item.settings))


def run(
  item: Run,
  place: workdir.Workdir,
  trained: Restored,
  *,
  command: str,
  stop: interrupt.StopRequest,
) -> None:
  """Audits what `config.audit` names; finished attacks are kept and not run again."""
  chosen, settings = item.settings.audit, item.settings
  policies, plan = policies_of(chosen, preset_of(settings)), plan_of(chosen)
  pictures = evaluate.from_dataset(item.dataset, split=settings.evaluate.split)
  pictures = first_of(pictures, chosen.num_images)
  pool = pool_of(item.dataset, chosen.pool_examples)
  predictor = item.trainer.predictor(trained.state)
  measured = audit(
    predictor,
    pictures,
    policies,
    pool=pool,
    attacks=plan_lib.words(chosen.attacks),
    plan=plan,
    batch_size=chosen.batch_size,
    seed=settings.seed,
    confidence=settings.evaluate.confidence,
    mesh=item.mesh,
    name=settings.name,
    folder=place.path / FOLDER,
    should_stop=stop.agreed,
  )
  figures = measure(
    predictor,
    first_of(pictures, chosen.figure_images),
    policies,
    pool=pool,
    plan=plan,
    figures=plan_lib.words(chosen.figures),
    batch_size=chosen.batch_size,
    seed=settings.seed,
    confidence=settings.evaluate.confidence,
    mesh=item.mesh,
    layers_fn=item.trainer.layers(trained.state),
    should_stop=stop.agreed,
  )
  if not log.is_primary():
    return
  results.write(
    place.path / FILE,
    dataclasses.replace(
      measured,
      settings=settings.to_json(),
      config_hash=settings_lib.config_hash(settings),
      command=command,
      metrics=(*measured.metrics, *figures.metrics),
      curves={**measured.curves, **figures.curves},
    ),
  )
  log.info(f"{settings.name}: wrote {place.path / FILE}")


def preset_of(settings: Settings) -> str:
  """Returns the preset that the config names, or that of its data set and training."""
  if settings.audit.preset:
    return settings.audit.preset
  plain = "mixup" if settings.augment.policy.get("name") == "mixup" else "erm"
  training = {"none": plain, "iat": "iat"}.get(settings.adversary.name, "at")
  family = "cifar100" if settings.data.name == "cifar100" else "cifar10"
  usual = {"erm": "mixup", "at": "iat"}  # the paper has no entry of its own for these on CIFAR-100
  names = (f"{family}/{training}", f"{family}/{usual.get(training, training)}")
  return next(name for name in names if name in defenses.PRESETS)


def policies_of(chosen: Audit, preset: str) -> dict[str, dict[str, Any]]:
  """Returns label -> policy; the label is the entry without its preset where that is unique."""
  words = plan_lib.words(chosen.defenses)
  entries = [word.rpartition(":")[2] for word in words]
  policies = {}
  for word, entry in zip(words, entries, strict=True):
    policy = policy_of(word, preset=preset)
    if chosen.num_draws and policy["name"] != "none":
      policy["num_draws"] = chosen.num_draws
    policies[entry if entries.count(entry) == 1 else word] = policy
  return policies


def plan_of(chosen: Audit) -> Plan:
  """Returns what the attacks may spend."""
  tree: Mapping[str, Any] = dataclasses.asdict(chosen)
  return Plan(**{f.name: tree[f.name] for f in dataclasses.fields(Plan)})


def first_of(pictures: evaluate.Examples, num: int) -> evaluate.Examples:
  """Returns the first `num` pictures; all if it is 0."""
  if not num:
    return pictures
  return pictures.take(np.arange(min(num, len(pictures))))


def pool_of(dataset: data.Dataset, num: int) -> defenses.Pool:
  """Returns the first `num` training pictures (0: all), clean; nothing that is audited is there."""
  part = dataset.train.part(0, num or len(dataset.train))
  images, labels = part.images.astype(np.float32) / 255, np.asarray(part.labels)
  return defenses.build_pool(images, labels, num_classes=dataset.num_classes, compact=True)
