# SPDX-License-Identifier: Apache-2.0
"""`--job=compile --config.runtime.target=v5e-4`: what a run will need, without data and devices.

The programs of the run are compiled for the target from shapes alone. Of each is told whether it
fits and how large a batch would, what bounds it, and what the chips exchange; the whole goes to
`compile/TARGET.json` in the run's folder.
"""

import dataclasses
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixboost_jax import (
  attacks,
  data,
  defenses,
  files,
  interactions,
  metrics,
  schema,
  target,
  train,
)
from mixboost_jax.data import cifar, pictures, shapes
from mixboost_jax.jobs import audit
from mixboost_jax.runtime import log, programs, targets
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.targets import GIB, Target
from mixboost_jax.schema import Settings

FOLDER = "compile"
SETS: Mapping[str, tuple[int, int, int, int]] = {
  "shapes": (10_000, 2_000, shapes.SIZE, len(shapes.CLASS_NAMES)),
  "cifar10": (50_000, 10_000, cifar.SIZE, cifar.LAYOUTS["cifar10"].num_classes),
  "cifar100": (50_000, 10_000, cifar.SIZE, cifar.LAYOUTS["cifar100"].num_classes),
}
"""Training and test pictures, side, classes; sets of files count as ImageNet."""
IMAGENET = (1_281_167, 50_000, 224, 1_000)


class Case(NamedTuple):
  """A program with the shapes of its arguments.

  Attributes:
    program: jitted.
    arguments: shapes with shardings.
    images: that one run of it gets done.
    shared: whether the chips share them; otherwise each does all.
  """

  program: Any
  arguments: tuple[Any, ...]
  images: int
  shared: bool = True


def run(every: Sequence[Settings], folders: Sequence[pathlib.Path], *, command: str) -> int:
  """Compiles the programs of every run for its target and says what they need.

  Returns:
    The exit code 0: not to fit is an answer.

  Raises:
    ValueError: if there is no target, its compiler is missing, or the batch cannot be split.
  """
  targets.prepare_host()
  for settings, folder in zip(every, folders, strict=True):
    found = describe(settings)
    log.info(table(found))
    path = files.make_folder(folder / FOLDER) / f"{settings.runtime.target}.json"
    files.write_json(path, {**found, "command": command})
    log.info(f"{settings.name}: wrote {path}")
  return 0


def describe(settings: Settings, *, sizes: bool = True) -> dict[str, Any]:
  """Returns all that the job tells, as JSON.

  Args:
    settings: of the run, with `runtime.target`.
    sizes: also find the largest batch, which takes another compilation of each program.
  """
  if not settings.runtime.target:
    raise ValueError(
      "config.runtime.target: say what to compile for, e.g. --config.runtime.target=v5e-4; one of "
      f"{', '.join(targets.CHIPS)}."
    )
  chosen = targets.parse(settings.runtime.target)
  devices = targets.devices(chosen)
  mesh = meshes.create(fsdp=settings.runtime.fsdp, devices=devices)
  return {
    "name": settings.name,
    "target": settings.runtime.target,
    "chips": chosen.count,
    "memory_per_chip": None if math.isinf(chosen.chip.memory) else chosen.chip.memory,
    "model": settings.model.name,
    "compute_dtype": settings.model.compute_dtype,
    "notes": notes(settings),
    "jax": jax.__version__,
    "programs": {
      name: _of_program(name, settings, chosen, mesh, sizes=sizes)
      for name in words(settings.runtime.programs)
    },
  }


def words(text: str) -> list[str]:
  """Returns the names between commas."""
  return [word.strip() for word in text.split(",") if word.strip()]


def programs_problem(text: str) -> str | None:
  """Returns what is wrong with `config.runtime.programs`, or None: a check for the settings."""
  unknown = [word for word in words(text) if word not in PROGRAMS]
  if not words(text) or unknown:
    return f"expected some of {', '.join(PROGRAMS)} with commas between them, got {text!r}"
  return None


def notes(settings: Settings) -> list[str]:
  """Returns what was assumed about a run whose data were not looked at."""
  if settings.data.name in SETS:
    return []
  given = f"data.train_examples={settings.data.train_examples}"
  count = given if settings.data.train_examples else f"{IMAGENET[0]:,} training pictures"
  return [f"data were not read: assumed {IMAGENET[3]:,} classes, {count}"]


class _Nothing:
  """Files of a set that is never read."""

  fingerprint, num_channels = "", 3

  def __len__(self) -> int:
    return 0

  def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
    raise ValueError(f"a stand-in holds no pictures: {rows}.")

  def name(self, row: int) -> str:
    return f"stand-in {row}"


def stand_in(chosen: schema.Data) -> data.Dataset:
  """Returns a data set of the size that a config will load; its pictures take no memory."""
  known = SETS.get(chosen.name, IMAGENET)
  num_train, num_test, side, classes = known
  side = chosen.image_size or side
  num_train, num_test = chosen.train_examples or num_train, chosen.test_examples or num_test
  is_files = chosen.name in ("folder", "tfds")
  small = pictures.fits(num_train, (side, side, 3))
  streamed = is_files and (chosen.stream == "on" or (chosen.stream == "auto" and not small))

  def split(count: int) -> data.Split:
    ids = np.arange(count, dtype=np.int32)
    if streamed:
      images: Any = data.StoredPictures(_Nothing(), ids, image_size=side)
    else:
      images = np.broadcast_to(np.zeros((), np.uint8), (count, side, side, 3))
    return data.Split(images, np.zeros(count, np.int32), ids)

  held_out = chosen.validation_examples
  return data.Dataset(
    name=chosen.name,
    title=chosen.name,
    source="procedural",
    class_names=tuple(map(str, range(classes))),
    train=split(num_train - held_out),
    validation=split(held_out) if held_out else None,
    test=split(num_test),
    channel_mean=(0.5,) * 3,
  )


def build(settings: Settings, mesh: Mesh, dataset: data.Dataset | None = None) -> train.Trainer:
  """Builds a run whose arrays are shapes; files that it would start from are left out.

  Without a data set it is `stand_in`.
  """
  model = dataclasses.replace(settings.model, weights="")
  augment = dataclasses.replace(settings.augment, mixing_dir="")
  bare = dataclasses.replace(settings, model=model, augment=augment)
  with target.on_paper():
    return train.build(bare, stand_in(settings.data) if dataset is None else dataset, mesh)


def _training(settings: Settings, mesh: Mesh, batch: int) -> Case:
  changed = dataclasses.replace(settings.train, batch_size=batch)
  trainer = build(dataclasses.replace(settings, train=changed), mesh)
  one = trainer.replace(many_steps=None)
  return step_case(one, mesh, stand_in(settings.data).image_shape)


def step_case(trainer: train.Trainer, mesh: Mesh, image_shape: tuple[int, int, int]) -> Case:
  """Returns the training step of a run, on paper or not, with the shapes of its arguments.

  If a call may do several steps it is these.
  """
  step, chosen = trainer.many_steps or trainer.step, trainer.settings.train
  program, *first = step.func, *step.args  # pyright: ignore[reportFunctionMemberAccess]
  batch, whole = chosen.batch_size, meshes.replicated(mesh)
  if trainer.split is not None:
    order = jax.ShapeDtypeStruct(trainer.split.ids.shape, jnp.int32, sharding=whole)
    rest: tuple[Any, ...] = (trainer.split, order, trainer.root)
  else:
    pieces = (chosen.accumulate, batch // chosen.accumulate)
    spread = NamedSharding(mesh, PartitionSpec(None, meshes.AXES))
    rows = [((*pieces, *image_shape), jnp.uint8), (pieces, jnp.int32), (pieces, jnp.int32)]
    rest = (data.DeviceSplit(*_shapes(rows, spread)), trainer.root)
  return Case(
    program,
    (*first, trainer.state, *rest),
    batch * (chosen.steps_per_call if trainer.many_steps else 1),
  )


def _augmentation(settings: Settings, mesh: Mesh, batch: int) -> Case:
  """Flip, crops and policy alone; they are part of the training step, too."""
  trainer, dataset = build(settings, mesh), stand_in(settings.data)
  sides = [(batch,), (batch, *dataset.image_shape), (batch, dataset.num_classes)]
  rows = list(zip(sides, (trainer.root.dtype, jnp.float32, jnp.float32), strict=True))
  keys, images, labels = _shapes(rows, meshes.batch_sharding(mesh))
  [epoch] = _shapes([((), jnp.int32)], meshes.replicated(mesh))

  def change(augment: Any, *given: Any) -> Any:
    return augment(*given)

  program = jax.jit(target.traced_for(mesh, change))
  return Case(program, (trainer.parts.augment, keys, images, labels, epoch, keys), batch)


def _shapes(rows: Sequence[tuple[Any, Any]], sharding: Any) -> list[Any]:
  return [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype in rows]


class _Forward(NamedTuple):
  """What programs with a trained network take."""

  logits_fn: Any
  keys: Any
  images: Any
  labels: Any


def _forward(settings: Settings, mesh: Mesh, batch: int) -> _Forward:
  trainer = build(settings, mesh)
  side = stand_in(settings.data).image_shape
  spread = meshes.batch_sharding(mesh)
  rows = [((batch,), trainer.root.dtype), ((batch, *side), jnp.float32), ((batch,), jnp.int32)]
  keys, images, labels = _shapes(rows, spread)
  return _Forward(trainer.predictor(trainer.state), keys, images, labels)


def _evaluation(settings: Settings, mesh: Mesh, batch: int) -> Case:
  given = _forward(settings, mesh, batch)

  def score(logits_fn: Any, images: Any, labels: Any) -> Any:
    logits = logits_fn(images).astype(jnp.float32)
    return metrics.correct(logits, labels), metrics.nll_per_example(logits, labels)

  program = jax.jit(target.traced_for(mesh, score), out_shardings=meshes.replicated(mesh))
  return Case(program, (given.logits_fn, given.images, given.labels), batch)


def _pgd(settings: Settings, mesh: Mesh, batch: int) -> Case:
  given = _forward(settings, mesh, batch)

  def attack(logits_fn: Any, keys: Any, images: Any, labels: Any) -> Any:
    return attacks.pgd(keys, logits_fn, images, labels, **attacks.PRESETS["pixmix"])

  program = jax.jit(target.traced_for(mesh, attack))
  return Case(program, (given.logits_fn, given.keys, given.images, given.labels), batch)


def _mixup_inference(settings: Settings, mesh: Mesh, batch: int) -> Case:
  given, whole = _forward(settings, mesh, batch), meshes.replicated(mesh)
  dataset = stand_in(settings.data)
  rows, classes = settings.audit.pool_examples or len(dataset.train), dataset.num_classes
  policy = dict(defenses.PRESETS[audit.preset_of(settings)]["mi-ol"])
  policy["num_draws"] = settings.audit.num_draws or policy["num_draws"]
  shaped = [((rows, *dataset.image_shape), jnp.uint8), ((classes,), jnp.int32)]

  def predict(shared: Any, keys: Any, images: Any) -> Any:
    logits_fn, stored, starts = shared
    pool = defenses.Pool(stored, starts, starts, None, None)
    return defenses.build(policy, logits_fn, pool=pool)(keys, images)

  program = jax.jit(target.traced_for(mesh, meshes.over_examples(predict, mesh)))
  shared = (given.logits_fn, *_shapes(shaped, whole))
  return Case(program, (shared, given.keys, given.images), batch)


def _interactions(settings: Settings, mesh: Mesh, batch: int) -> Case:
  """One call of the network on masked copies of a picture; every chip does the same."""
  given, whole = _forward(settings, mesh, mesh.size), meshes.replicated(mesh)
  grid, per_chip = settings.interactions.grid, batch // mesh.size
  side = stand_in(settings.data).image_shape
  arguments = _shapes([(side, jnp.float32), ((per_chip, grid * grid), bool)], whole)

  def values(logits_fn: Any, image: Any, coalitions: Any) -> Any:
    game = interactions.image_game(logits_fn, image, 0, grid=grid, fill=0.5)
    return game.values(coalitions)

  program = jax.jit(target.traced_for(mesh, values))
  return Case(program, (given.logits_fn, *arguments), per_chip, shared=False)


def _rounded(batch: int, chips: int) -> int:
  return -(-batch // chips) * chips


PROGRAMS: Mapping[
  str, tuple[Callable[[Settings, Mesh, int], Case], Callable[[Settings, int], int], str]
] = {
  "train": (_training, lambda s, n: s.train.batch_size, "train.batch_size"),
  "augment": (_augmentation, lambda s, n: s.train.batch_size, "train.batch_size"),
  "evaluate": (
    _evaluation, lambda s, n: _rounded(s.evaluate.batch_size, n), "evaluate.batch_size"
  ),
  "pgd": (_pgd, lambda s, n: _rounded(s.evaluate.batch_size, n), "evaluate.batch_size"),
  "mi": (_mixup_inference, lambda s, n: _rounded(s.audit.batch_size, n), "audit.batch_size"),
  "interactions": (
    _interactions, lambda s, n: s.interactions.chunk_size * n, "interactions.chunk_size"
  ),
}  # fmt: skip
"""Name -> (what makes it, its batch over all chips, the key that says so)."""


def _of_program(
  name: str, settings: Settings, chosen: Target, mesh: Mesh, *, sizes: bool
) -> dict[str, Any]:
  make, batch_of, key = PROGRAMS[name]
  batch, parts = batch_of(settings, chosen.count), settings.train.accumulate
  unit = chosen.count * (parts if name == "train" else 1)
  if batch % unit:
    raise ValueError(
      f"config.{key}={batch}: expected a multiple of {unit} (chips of {chosen.name} times "
      f"train.accumulate); {max(batch // unit, 1) * unit} would fit."
    )

  def at(batch: int) -> dict[str, Any]:
    return measure(make(settings, mesh, batch), chosen, dtype=settings.model.compute_dtype)

  found = at(batch) | {"batch": batch, "batch_per_chip": batch // chosen.count, "key": key}
  if sizes and not math.isinf(chosen.chip.memory):
    most = len(stand_in(settings.data).train) if name == "train" else math.inf
    found |= largest(
      found, batch, unit, at, memory=chosen.chip.memory, chips=chosen.count, most=most
    )
  return found


def measure(case: Case, chosen: Target, *, dtype: str) -> dict[str, Any]:
  """Compiles one program and returns what it needs and does, per chip."""
  chosen = chosen if case.shared else chosen.with_count(1)
  started = time.perf_counter()
  traced = case.program.trace(*case.arguments)
  counted = programs.flops(traced.jaxpr) / chosen.count
  lowered = traced.lower()
  lowering, started = time.perf_counter() - started, time.perf_counter()
  kept = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
  jax.config.update("jax_enable_compilation_cache", False)  # the time told is that of compiling
  try:
    program, memory = compiled(lowered)
  finally:
    jax.config.update("jax_enable_compilation_cache", kept)
  if program is None:
    return {"fits": False, "memory": memory, "flops": counted, "images": case.images}
  seconds = time.perf_counter() - started
  found = programs.inspect(program.as_text())
  own = program.cost_analysis() or {}
  exchanges = [(kind, *numbers) for kind, numbers in found.collectives.items()]
  return {
    "images": case.images,
    "fits": memory["total"] <= chosen.chip.memory,
    "memory": memory,
    "flops": counted,
    "flops_by": "convolutions and matrix products of the traced program",
    "compiler_flops": own.get("flops"),
    "bytes": found.bytes,
    "bytes_by": "operands and results of the compiled kernels",
    "compiler_bytes": own.get("bytes accessed"),
    "compiler_seconds": own.get("optimal_seconds"),
    **roofline(chosen, counted, found.bytes, exchanges, images=case.images, dtype=dtype),
    "collectives": {kind: {"count": n, "bytes": size} for kind, n, size in exchanges},
    "program": dataclasses.asdict(found),
    "lowering_seconds": round(lowering, 2),
    "compile_seconds": round(seconds, 2),
  }


def compiled(lowered: Any) -> tuple[Any, dict[str, float]]:
  """Compiles; returns the program and its bytes per device by their use, `total` among them.

  The program is None if the compiler found that it needs too much, with the total that it told.
  """
  try:
    program = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    needed = _needed(str(error))
    if needed is None:
      raise
    return None, {"total": needed}
  given = program.memory_analysis()
  parts = {
    "arguments": given.argument_size_in_bytes,
    "outputs": given.output_size_in_bytes,
    "aliased": given.alias_size_in_bytes,
    "temporaries": given.temp_size_in_bytes,
    "code": given.generated_code_size_in_bytes,
  }
  total = sum(parts.values()) - 2 * parts["aliased"]
  return program, {**parts, "total": total}


def _needed(message: str) -> float | None:
  """Returns the bytes that a compiler found too many; None if it complains of something else."""
  found = re.search(r"[Uu]sed ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
  if "RESOURCE_EXHAUSTED" not in message or found is None:
    return None
  return float(found[1]) * 2.0 ** (10 * " KMGT".index(found[2] or " "))


def roofline(
  chosen: Target,
  flops: float,
  traffic: float,
  exchanges: Sequence[tuple[str, int, float]],
  *,
  images: int,
  dtype: str,
) -> dict[str, Any]:
  """Returns the least time of a step and what bounds it, for this and smaller numbers of chips.

  Arithmetic and memory overlap, exchanges come on top: those of batch statistics are waited for.
  The batch per chip is that of the target for every number of chips.
  """
  chip = chosen.chip
  peak = chip.bfloat16 if dtype == "bfloat16" else chip.float32
  if not peak:
    return {"seconds": None, "bound_by": "unknown peak", "scaling": []}
  parts = {"arithmetic": flops / peak, "memory": traffic / chip.bandwidth}
  alone = max(parts.values())
  rows = []
  for count in dict.fromkeys([*(c for c in (1, 4, 8, 16, 64, 256) if c < chosen.count),
                              chosen.count]):  # fmt: skip
    exchange = targets.exchange_seconds(chosen.with_count(count), exchanges)
    rows.append({
      "chips": count,
      "seconds": alone + exchange,
      "images_per_second": images / chosen.count * count / (alone + exchange),
      "efficiency": alone / (alone + exchange),
    })  # fmt: skip
  parts["exchange"] = rows[-1]["seconds"] - alone
  return {
    "seconds": rows[-1]["seconds"],
    "seconds_by_part": parts,
    "bound_by": max(parts, key=lambda name: parts[name]),
    "images_per_second": rows[-1]["images_per_second"],
    "mfu_at_most": flops / peak / rows[-1]["seconds"],
    "scaling": rows,
  }


def largest(
  found: Mapping[str, Any],
  batch: int,
  unit: int,
  measure_at: Callable[[int], dict[str, Any]],
  *,
  memory: float,
  chips: int,
  most: float = math.inf,
) -> dict[str, Any]:
  """Returns the largest batch per chip on the straight line through the memory of two batches.

  Batches above `most` are not tried. `memory` is in bytes, of each of `chips`.
  """
  points = {batch: found["memory"]["total"]} if "temporaries" in found["memory"] else {}
  sizes = [batch // 2**k // unit * unit for k in range(1, batch.bit_length())]
  if (
    found["memory"]["total"] < memory / 16 and 8 * batch <= most
  ):  # much of it does not depend on the batch
    sizes = [8 * batch, *sizes]
  for size in sizes:
    if len(points) == 2 or size < unit:
      break
    other = measure_at(size)
    if "temporaries" in other["memory"]:
      points[size] = other["memory"]["total"]
  if len(points) < 2:
    return {"largest_per_chip": None, "largest_by": "no second batch could be compiled"}
  (small, less), (large, much) = sorted(points.items())
  slope = (much - less) / (large - small)
  if slope <= 0:
    return {"largest_per_chip": None, "largest_by": f"memory does not grow from {small} to {large}"}
  most_by_line = (memory - less) / slope + small
  return {
    "largest_per_chip": max(0, int(most_by_line // unit * unit // chips)),
    "largest_by": f"straight line through batches {small} and {large}, both compiled",
  }


def table(found: Mapping[str, Any]) -> str:
  """Returns what was found, for a person."""
  memory = found["memory_per_chip"]
  of = f" of {memory / GIB:.1f} GiB" if memory else ""
  lines = [
    f"{found['name']}: {found['model']}, {found['compute_dtype']}, for {found['target']} "
    f"({found['chips']} chip{'s' * (found['chips'] > 1)}{of}); per chip:",
    f"{'program':<13}{'batch':>6}{'GiB':>7} fits{'largest':>9}{'GFLOP':>9}{'GB':>8}{'ms':>9}"
    f" {'bound by':<13}{'images/s':>9}{'compile s':>10}",
  ]
  more = [f"note: {line}" for line in found["notes"]]
  for name, one in found["programs"].items():
    lines.append(_row(name, one))
    for kind, numbers in one.get("collectives", {}).items():
      more.append(f"{name}: {numbers['count']} {kind}, {numbers['bytes'] / 1e6:.2f} MB")
    scaling = one.get("scaling", [])
    if len(scaling) > 1:
      steps = ", ".join(
        f"{r['chips']}: {r['images_per_second']:,.0f} ({r['efficiency']:.0%})" for r in scaling
      )
      more.append(f"{name}: images/s (efficiency) on so many chips, same batch per chip: {steps}")
    if not one["fits"]:
      more.append(f"{name}: {_remedy_of(one, found)}")
  return "\n".join([*lines, *more])


def _row(name: str, one: Mapping[str, Any]) -> str:
  largest, seconds = one.get("largest_per_chip"), one.get("seconds")
  cells = [
    f"{name:<13}{one['batch_per_chip']:>6}{one['memory']['total'] / GIB:>7.2f}",
    f" {'yes' if one['fits'] else 'NO':<4}",
    f"{largest:>9,}" if largest is not None else f"{'-':>9}",
    f"{one['flops'] / 1e9:>9.1f}{one.get('bytes', math.nan) / 1e9:>8.2f}",
    f"{1e3 * seconds:>9.3f}" if seconds else f"{'-':>9}",
    f" {one.get('bound_by', '-'):<13}",
    f"{one['images_per_second']:>9,.0f}" if seconds else f"{'-':>9}",
    f"{one.get('compile_seconds', math.nan):>10.1f}",
  ]
  return "".join(cells)


def _remedy_of(one: Mapping[str, Any], found: Mapping[str, Any]) -> str:
  chip, dtype = targets.parse(found["target"]).chip, found["compute_dtype"]
  chips = found["chips"]
  return remedy(one, memory=chip.memory, chips=chips, dtype=dtype, enlarge=chip.enlarge)


def remedy(
  one: Mapping[str, Any], *, memory: float, chips: int, dtype: str, enlarge: str = ""
) -> str:
  """Returns what to do about a program that does not fit."""
  fitting = one.get("largest_per_chip")
  ways = []
  if fitting:
    ways.append(f"--config.{one['key']}={fitting * chips} ({fitting} per chip)")
  if one["key"] == "train.batch_size":
    ways.append("--config.train.accumulate=2 or more (the same update in pieces)")
    if dtype == "float32":
      ways.append("--config.model.compute_dtype=bfloat16")
  ways.append("more chips")
  if enlarge:
    ways.append(enlarge)
  needed = one["memory"]["total"] / GIB
  return f"needs {needed:.1f} of {memory / GIB:.1f} GiB; {', or '.join(ways)}."
