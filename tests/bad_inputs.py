# SPDX-License-Identifier: Apache-2.0
"""Wrong calls of every public function of layers 1 to 3, made from the signatures.

`cases()` lists (name, call, what the message must hold): each call has one wrong argument, all
others are as the annotations ask. A new public function is covered as soon as it is in `__all__`.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import (
  attacks,
  augment,
  corruptions,
  defenses,
  image,
  interactions,
  keys,
  losses,
  masks,
  metrics,
)

BOXES = ("augment", "augment.ops", "masks", "losses", "corruptions", "metrics", "attacks")
BOXES += ("defenses", "interactions", "image")
SIZES = {"N": 4, "H": 8, "W": 8, "C": 3, "K": 10, "coalitions": 8, "n": 3}
ANYWHERE = ("project", "project_l2", "project_linf", "largest_violation")
"""Functions whose `images` need not lie in [0, 1]; nor do those of the kernels of `image`."""
Case = tuple[str, Callable[[], Any], str]


def public_functions() -> dict[str, Callable]:
  found = {}
  for box in BOXES:
    module = importlib.import_module(f"mixboost_jax.{box}")
    for name in module.__all__:
      if inspect.isfunction(getattr(module, name)):
        found[f"{box}.{name}"] = getattr(module, name)
  return found


def parts_of(annotation: Any) -> tuple[Any, ...]:
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  return typing.get_args(annotation) if is_union else (annotation,)


def kind_of(form: Any) -> str:
  first = form.dtypes[0] if isinstance(form.dtypes, tuple | list) else "float32"
  starts = {"prng": "key", "bool": "bool", "uint8": "uint8", "int": "int"}
  return next((kind for start, kind in starts.items() if first.startswith(start)), "float")


def shape_of(form: Any) -> tuple[int, ...]:
  dims = [dim for dim in form.dim_str.split() if dim[0] not in "*."]
  return tuple(int(dim) if dim.isdigit() else SIZES.get(dim, 5) for dim in dims)


def good_array(form: Any) -> Any:
  shape, kind = shape_of(form), kind_of(form)
  if kind == "key":
    return jax.random.split(jax.random.key(0), shape) if shape else jax.random.key(0)
  if kind == "float":
    array = np.full(shape, 1 / shape[-1] if len(shape) == 2 else 0.5, np.float32)
  elif kind == "int":
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(np.int32)
  else:
    array = np.ones(shape, np.uint8 if kind == "uint8" else bool)
  return array if form.array_type is np.ndarray else jnp.asarray(array)


def blank(cls: type) -> Any:
  """Makes an instance without content: a wrong argument is found before anything is read."""
  fields = getattr(cls, "_fields", None)
  return object.__new__(cls) if fields is None else cls.__new__(cls, *[None] * len(fields))


def good(annotation: Any) -> Any:
  part = next((p for p in parts_of(annotation) if hasattr(p, "dim_str")), parts_of(annotation)[0])
  origin = typing.get_origin(part) or part
  if hasattr(part, "dim_str"):
    return good_array(part)
  if origin is Sequence and hasattr(typing.get_args(part)[0], "dim_str"):
    return [good_array(typing.get_args(part)[0])] * 2
  if isinstance(origin, type) and origin.__module__.startswith("mixboost_jax."):
    return blank(origin)
  plain = {int: 2, float: 0.25, str: "linf", bool: True, Mapping: {}, Sequence: [1], tuple: (1,)}
  return (lambda *_: jnp.ones((4, 10))) if origin is Callable else plain.get(origin, 0)


def wrong_arrays(
  name: str, form: Any, value: Any, all_dims: list[str]
) -> Iterator[tuple[str, Any]]:
  kind, dims = kind_of(form), form.dim_str.split()
  shared = {dim for dim in all_dims if all_dims.count(dim) > 1}
  fixed = not any(dim[0] in "*." for dim in dims)
  yield "text", "x"
  yield "nothing", None
  if kind == "key":
    yield "a seed", 0
    yield "a legacy key", jax.random.PRNGKey(0)
    if "*n" in dims and "N" in all_dims:
      yield "keys for other examples", jax.random.split(jax.random.key(0), 3)
    if not dims:
      yield "several keys", jax.random.split(jax.random.key(0), 4)
    return
  if isinstance(form.dtypes, tuple | list) and kind != "uint8":
    other = {"float": np.int32, "int": np.float32, "bool": np.int32}[kind]
    yield "another dtype", np.asarray(value).astype(other)
  if fixed:
    yield "one axis more", value[None]
  if fixed and dims:
    yield "one axis less", value[0]
  if dims and dims[0] in shared:
    yield "one example more", np.concatenate([value, value[:1]])
  if len(dims) == 2 and dims[1] == "K" and "K" in shared:
    yield "one class less", value[:, :-1]
  if name in ("image", "images") and isinstance(form.dtypes, tuple | list):
    yield "bytes", (np.asarray(value) * 255).astype(np.uint8)


def wrong_values(name: str, form: Any, value: Any, has_classes: bool) -> Iterator[tuple[str, Any]]:
  kind = kind_of(form)
  if kind == "key":
    return
  host = np.asarray(value)
  if name in ("image", "images") and kind == "float":
    yield "pictures of 0 to 255", host * 255
    yield "normalised pictures", (host - 0.9) * 2
    yield "NaN", host * np.nan
  if name == "labels" and kind == "int":
    yield "label -1", host - 1
    if has_classes:
      yield "a label that is no class", host + 10
  if name in ("soft_labels", "probabilities") and kind == "float":
    yield "logits", host * 10 - 3
    yield "NaN", host * np.nan


def wrong_options(annotation: Any) -> Iterator[tuple[str, Any]]:
  parts = {typing.get_origin(part) or part for part in parts_of(annotation)}
  if not parts <= {int, float, str, bool, types.NoneType, Callable, Mapping} and not all(
    isinstance(part, type) and part.__module__.startswith("mixboost_jax.") for part in parts
  ):
    return
  if parts & {int, float} and str not in parts:
    yield "text", "x"
  if float in parts:
    yield "NaN", float("nan")
  if int in parts and float not in parts:
    yield "a fraction", 2.5
  if str in parts:
    yield "a number", 3
  if not parts & {int, float, str}:
    yield "a number", 3
  if not parts & {types.NoneType}:
    yield "nothing", None


def of_function(name: str, function: Callable) -> Iterator[Case]:
  parameters = inspect.signature(function).parameters
  plain = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
  needed = {n: good(p.annotation) for n, p in plain.items() if p.default is p.empty}
  dims = [
    dim
    for n in needed
    for part in parts_of(plain[n].annotation)[:1]
    if hasattr(part, "dim_str") and part.dim_str
    for dim in set(part.dim_str.split())
  ]
  is_free = name.startswith("image.") or function.__name__ in ANYWHERE
  for argument, parameter in plain.items():
    forms = [part for part in parts_of(parameter.annotation) if hasattr(part, "dim_str")]
    wrong = list(wrong_options(parameter.annotation))
    if len(forms) == len(parts_of(parameter.annotation)):
      value = good_array(forms[0])
      wrong = list(wrong_arrays(argument, forms[0], value, dims))
      if len(forms) > 1:
        wrong = [(what, v) for what, v in wrong if what in ("text", "nothing", "one example more")]
      if not is_free:
        wrong += wrong_values(argument, forms[0], value, "K" in dims)
    for what, value in wrong:
      yield (
        f"{name}: {argument}: {what}",
        partial(function, **{**needed, argument: value}),
        argument,
      )


PICTURES = jnp.full((4, 8, 8, 3), 0.5)
LABELS = jnp.arange(4)
KEY = jax.random.key(0)
SHORT = (0.5, 0.5)  # a fill for two channels


def linear(images: jax.Array) -> jax.Array:
  return images.reshape(len(images), -1)[:, :10]


def of_attacks() -> Iterator[Case]:
  """Radius, pictures on the device, and labels that only the network's classes tell."""
  names = ("pgd", "fgsm", "momentum_pgd", "apgd", "square", "fab", "transfer", "autoattack")
  for name in names:
    attack = partial(getattr(attacks, name), KEY, linear)
    if name == "pgd":
      attack = partial(attack, step_size=0.01, num_steps=1)
    one = partial(attack, PICTURES, LABELS)
    for epsilon in (8, 1.5, -0.1, np.float32(8), jnp.float32(8)):
      yield f"attacks.{name}: epsilon {epsilon!r}", partial(one, epsilon=epsilon), "epsilon"
    yield f"attacks.{name}: l2 epsilon", partial(one, epsilon=128.0, norm="l2"), "epsilon"
    yield f"attacks.{name}: norm", partial(one, epsilon=0.1, norm="l3"), "norm"
    for what, pictures in (("0 to 255", PICTURES * 255), ("[-1, 1]", PICTURES * 3 - 2)):
      call = partial(attack, pictures, LABELS, epsilon=0.1)
      yield f"attacks.{name}: pictures {what}, on the device", call, "images"
    call = partial(attack, PICTURES, LABELS + 7, epsilon=0.1)
    yield f"attacks.{name}: label 10 of 10", call, "labels"
  call = partial(attacks.pgd, KEY, linear, PICTURES, LABELS, epsilon=0.1, num_steps=1)
  yield "attacks.pgd: step of 2", partial(call, step_size=2), "step_size"


def of_interactions() -> Iterator[Case]:
  game = interactions.table_game(jnp.arange(16.0))
  options: dict[str, Any] = {"orders": (1,), "num_contexts": 2}
  for pair in ((1, 1), (0, 9), (-1, 0)):
    call = partial(interactions.multi_order, KEY, game, pairs=np.array([pair]), **options)
    yield f"interactions.multi_order: pair {pair}", call, "pairs"
  one = partial(interactions.image_game, linear, PICTURES[0], 0)
  yield "interactions.image_game: fill of two", partial(one, grid=2, fill=np.array(SHORT)), "fill"
  for grid in (-1, 0, 1.5):
    yield f"interactions.image_game: grid {grid}", partial(one, grid=grid), "grid"
    yield f"grid_population: {grid}", partial(interactions.grid_population, grid), "grid"


def by_hand() -> Iterator[Case]:
  """What no signature says."""
  yield from of_attacks()
  yield from of_interactions()
  for what, pictures in (("0 to 255", PICTURES * 255), ("NaN", PICTURES * jnp.nan)):
    call = partial(corruptions.corrupt, KEY, pictures, name="fog", severity=1)
    yield f"corruptions.corrupt: {what}, on the device", call, "images"
  mask = jnp.ones((4, 4), bool)
  call = partial(masks.apply, PICTURES, mask, fill=jnp.array(SHORT))
  yield "masks.apply: fill of two", call, "fill"
  for grid in (-1, 0, 1.5):
    call = partial(masks.sample_patch_mask, KEY, grid=grid, keep_rate=0.5)
    yield f"masks.sample_patch_mask: grid {grid}", call, "grid"
    yield f"masks.cell_ranks: grid {grid}", partial(masks.cell_ranks, KEY, grid=grid), "grid"
  cutout = partial(augment.cutout, length=4)
  policies = (cutout, augment.autoaugment, augment.randaugment, augment.augmix)
  for policy in (*policies, augment.trivial_augment_wide):
    yield f"{policy}: fill of two", partial(policy, KEY, PICTURES, fill=SHORT), "fill"
  levels = jnp.ones((4, 4, 3), jnp.uint8)
  yield "image.to_levels: bytes", partial(image.to_levels, levels), "images"
  pool = defenses.build_pool(np.asarray(PICTURES), np.arange(4) % 2, num_classes=2)
  call = partial(defenses.mixup_inference, 0, linear, PICTURES, pool, mode="ol")
  yield "defenses.mixup_inference: a seed", call, "key"
  logits = np.zeros((4, 10))
  call = partial(losses.cross_entropy, logits, np.full(4, 10))
  yield "losses.cross_entropy: NumPy label 10", call, "labels"
  call = partial(metrics.accuracy, jnp.asarray(logits), LABELS - 1)
  yield "metrics.accuracy: label -1 on the device", call, "labels"
  rest = {"per_example": (4,), "for_batch": (), "split_each": (2,), "fold_in_each": (LABELS,)}
  for name, arguments in rest.items():
    for key in (0, jax.random.PRNGKey(0)):
      call = partial(getattr(keys, name), key, *arguments)
      yield f"keys.{name}: {type(key).__name__}", call, "key"


def cases() -> list[Case]:
  """Returns (name, call, word that the message must hold) of every bad input."""
  return [
    *(case for name, f in sorted(public_functions().items()) for case in of_function(name, f)),
    *by_hand(),
  ]
