# SPDX-License-Identifier: Apache-2.0
"""Refuses wrong arguments of the public functions, in one place and in one wording.

The annotations are the contract: `inputs` reads them once, when a function is defined, and compares
every call with them: dtype, rank, sizes that arguments share, and the kind of the options. That
needs shapes only, so it works while a function is traced and adds nothing to what is compiled.
NumPy arrays and lists become JAX arrays.

What only values can tell (pictures outside of [0, 1], labels that are no class, rows that are no
probabilities, NaN) is looked at where that is cheap: in NumPy arrays always, in concrete JAX arrays
where a function says so (`values="always"`: attacks and corruptions), and everywhere, also inside
compiled programs, if the environment has `MIXBOOST_CHECKS=1`. A compiled program reports with a
`jax.errors.JaxRuntimeError` that ends in the same sentence.
"""

import contextlib
import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

F = TypeVar("F", bound=Callable[..., Any])
Values = Literal["debug", "always", "known", "never"]
Sizes = dict[str, tuple[int, str]]
"""Name of an axis -> its size in this call, and the argument that had it first."""

DEBUG = os.environ.get("MIXBOOST_CHECKS", "0") not in ("", "0")
"""Whether values are looked at in all arrays, traced ones included."""

_SLACK = 1e-4  # of a pixel value
_SUM_SLACK = 1e-2  # of the sum of a row of probabilities: bfloat16 has 8 bits
_COUNTED = {"N": "examples", "K": "classes", "C": "channels", "H": "rows", "W": "columns"}
_ROLES = {"image": "picture", "images": "picture", "labels": "labels"}
_ROLES |= {"probabilities": "rows", "soft_labels": "rows"}
"""What the house calls things, and so what their values must be."""


@contextlib.contextmanager
def tracing(name: str) -> Iterator[None]:
  """Says of a function of the caller's that it cannot be traced, as one ValueError."""
  try:
    yield
  except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
    raise ValueError(
      f"{name} must be made of JAX operations (it is compiled); wrap other code in "
      "jax.pure_callback."
    ) from error


class Form(NamedTuple):
  """One array that an argument may be: `kind` of its dtype, and names or numbers of its axes."""

  kind: str
  dims: tuple[str, ...]

  def axes(self, rank: int) -> tuple[str, ...]:
    """Returns the axes of an array of this rank: a name with a star is any number of them."""
    star = next((i for i, dim in enumerate(self.dims) if dim[0] in "*."), None)
    if star is None:
      return self.dims
    return self.dims[:star] + ("_",) * (rank - len(self.dims) + 1) + self.dims[star + 1 :]

  def fits(self, array: Any) -> bool:
    """Tells whether dtype and rank fit."""
    kinds = (kind_of(array.dtype), str(array.dtype), "any")
    return self.kind in kinds and len(self.axes(array.ndim)) == array.ndim


class Argument(NamedTuple):
  """What one argument may be."""

  name: str
  forms: tuple[Form, ...]
  """Of arrays."""
  host: Literal["no", "may", "only"] = "no"
  """Whether NumPy's arrays stay ("may"), become JAX's ("no"), or JAX's become NumPy's ("only")."""
  others: tuple[Callable[[Any], bool], ...] = ()
  """Tests of what is no array."""
  words: tuple[str, ...] = ()
  """What else it may be, for the message."""
  each: bool = False
  """Whether it is a sequence of such arrays."""


def inputs(*, values: Values = "debug", caller: str = "") -> Callable[[F], F]:
  """Returns a decorator that checks the arguments of a function by its annotations.

  Args:
    values: when the values of `image`, `images`, `labels`, `soft_labels` and `probabilities` are
      looked at; see the module. "known" is for metrics, which turn nonsense into NaN while they are
      traced: concrete arrays only. "never" is for functions whose `images` may lie anywhere.
    caller: what messages begin with; the name of the function by default.
  """

  def decorate(function: F) -> F:
    said = caller or function.__name__
    parameters = inspect.signature(function).parameters
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    read = (_read(name, p.annotation) for name, p in parameters.items())
    arguments = {argument.name: argument for argument in read if argument}
    looked_at = {name for name in _ROLES.keys() & arguments if arguments[name].forms}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
      asked = {**dict(zip(positional, args, strict=False)), **kwargs}
      given, sizes = dict(asked), {}
      for name, value in asked.items():
        if name in arguments:
          given[name] = _accept(said, arguments[name], value, sizes)
      _agree(said, given, arguments, sizes)
      if values == "always":
        _refuse_large_steps(said, given, sizes)
      for name in looked_at & given.keys() if values != "never" else ():
        if given[name] is not None:
          value = given[name] if isinstance(asked[name], jax.Array) else np.asarray(asked[name])
          _look(said, name, value, sizes, values=values)
      own = [given[name] for name in positional[: len(args)]]
      return function(*own, *args[len(own) :], **{name: given[name] for name in kwargs})

    return typing.cast(F, checked)

  return decorate


def class_numbers(caller: str, name: str, labels: Any, num_classes: int) -> None:
  """Raises a ValueError if known labels are no classes; looks at traced ones in debug runs only."""
  _look(caller, name, labels, {"K": (num_classes, name)}, values="always", role="labels")


# What the annotations ask for.


@functools.lru_cache
def kind_of(dtype: Any) -> str:
  """Returns "bool", "int", "float", "key", or the name of another dtype."""
  if jnp.issubdtype(dtype, jax.dtypes.prng_key):
    return "key"
  for kind, group in (("bool", jnp.bool_), ("int", jnp.integer), ("float", jnp.floating)):
    if jnp.issubdtype(dtype, group):
      return kind
  return str(dtype)


def _form(annotation: Any) -> Form:
  first = annotation.dtypes[0] if isinstance(annotation.dtypes, tuple | list) else "any"
  starts = {"prng": "key", "bool": "bool", "uint8": "uint8", "int": "int", "any": "any"}
  kind = next((kind for start, kind in starts.items() if first.startswith(start)), "float")
  return Form(kind, tuple(annotation.dim_str.split()))


def _is_integer(value: Any) -> bool:
  if isinstance(value, int | np.integer):
    return not isinstance(value, bool)
  return getattr(value, "shape", None) == () and kind_of(value.dtype) == "int"


def _is_number(value: Any) -> bool:
  if isinstance(value, float | int | np.number):
    return not isinstance(value, bool) and bool(value == value)
  return getattr(value, "shape", None) == () and kind_of(value.dtype) in ("int", "float")


def _is_linen(value: Any) -> bool:
  """Tells a module without its parameters, which can be called but not used."""
  return all(hasattr(value, name) for name in ("init", "apply", "bind"))


_PLAIN: dict[Any, tuple[Callable[[Any], bool], str]] = {
  int: (_is_integer, "an integer"),
  float: (_is_number, "a number"),
  bool: (lambda value: isinstance(value, bool | np.bool_), "True or False"),
  str: (lambda value: isinstance(value, str), "a string"),
  types.NoneType: (lambda value: value is None, "None"),
  np.ndarray: (lambda value: isinstance(value, np.ndarray), "an array"),
  tuple: (lambda value: isinstance(value, tuple | list), "a tuple"),
  Callable: (lambda value: callable(value) and not _is_linen(value), "a function"),
  Mapping: (lambda value: isinstance(value, Mapping), "a mapping"),
  Sequence: (lambda value: hasattr(value, "__len__") and not isinstance(value, str), "a sequence"),
}


def _plain(annotation: Any) -> tuple[Callable[[Any], bool], str] | None:
  """Returns the test of an annotation that is no array and its words, or None if there is none."""
  origin = typing.get_origin(annotation) or annotation
  if origin is Literal:
    choices = typing.get_args(annotation)
    words = " or ".join(map(repr, choices))
    return (lambda value: isinstance(value, str) and value in choices), words
  if isinstance(origin, type) and origin.__module__.startswith("mixboost_jax."):
    return (lambda value: isinstance(value, origin)), f"a {origin.__name__}"
  return _PLAIN.get(origin) if isinstance(origin, typing.Hashable) else None


def _read(name: str, annotation: Any) -> Argument | None:
  """Returns what an annotation asks for; None if it asks for nothing that is checked."""
  inner = typing.get_args(annotation)
  if typing.get_origin(annotation) is Sequence and hasattr(inner[0], "dim_str"):
    return Argument(name, (_form(inner[0]),), each=True)
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  parts = inner if is_union else (annotation,)
  arrays = [part for part in parts if hasattr(part, "dim_str")]
  rest = [_plain(part) for part in parts if part not in arrays]
  if None in rest:
    return None
  hosts = [part.array_type is np.ndarray for part in arrays]
  host = "only" if arrays and all(hosts) else "may" if any(hosts) or np.ndarray in parts else "no"
  tests, words = zip(*rest, strict=True) if rest else ((), ())
  words = tuple(word for word in dict.fromkeys(words) if word not in ("None", "an array"))
  return Argument(name, tuple(dict.fromkeys(map(_form, arrays))), host, tests, words)


# One call.


def _accept(caller: str, argument: Argument, value: Any, sizes: Sizes) -> Any:
  """Returns the value, made an array if it shall be one, or raises."""
  if argument.each and hasattr(value, "__len__") and getattr(value, "ndim", 1):
    parts = enumerate(value)
    one = argument._replace(each=False)
    return [_accept(caller, one._replace(name=f"{one.name}[{i}]"), v, sizes) for i, v in parts]
  is_one = bool(argument.forms) and _is_array(value) and value.ndim > 0
  if not is_one and any(test(value) for test in argument.others):
    return value.item() if isinstance(value, np.generic) else value
  array: Any = None
  if not argument.others or _is_array(value) or isinstance(value, list | tuple):
    array = _as_array(argument, value)
  for form in argument.forms:
    if array is not None and not argument.each and form.fits(array):
      for dim, size in zip(form.axes(array.ndim), array.shape, strict=True):
        _bind(caller, argument.name, dim, size, sizes)
      unsigned = form.kind == "int" and jnp.issubdtype(array.dtype, jnp.unsignedinteger)
      return array.astype(jnp.int32) if unsigned else array
  remedy = _remedy(argument, value if array is None else array)
  raise ValueError(
    f"{caller}: {argument.name} must be {_want(argument)}, got {_got(value)}{remedy}."
  )


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array | np.ndarray)


def _as_array(argument: Argument, value: Any) -> Any:
  """Returns the array that a value stands for, or None if it stands for none."""
  if not argument.forms:
    return None
  if isinstance(value, jax.Array):
    return np.asarray(value) if argument.host == "only" else value
  try:
    array = np.asarray(value)
    if kind_of(array.dtype) not in ("bool", "int", "float"):
      return None
    wide = kind_of(array.dtype) == "int" and not jax.config.read("jax_enable_x64")
    if wide and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
      return None
  except (TypeError, ValueError, OverflowError):
    return None
  return jnp.asarray(array) if argument.host == "no" else array


def _bind(caller: str, name: str, dim: str, size: int, sizes: Sizes) -> None:
  """Remembers the size of an axis, or compares it with what it was."""
  if dim.isdigit() and size != int(dim):
    raise ValueError(f"{caller}: {name} must have an axis of {dim}, got {size}.")
  if not dim.isidentifier() or dim == "_":
    return
  known, other = sizes.setdefault(dim, (size, name))
  if known == size:
    return
  rule = f"the axes {dim} of {name} must be equally long"
  if other != name:
    counted = _COUNTED.get(dim, f"entries along {dim}")
    rule = f"{other} and {name} must have the same number of {counted}"
  raise ValueError(f"{caller}: {rule}, got {known} and {size}.")


def _agree(caller: str, given: dict, arguments: dict, sizes: Sizes) -> None:
  """Compares keys with the number of examples, and a fill with that of channels."""
  key, fill = given.get("key"), given.get("fill")
  if "N" in sizes and "key" in arguments and key is not None and key.ndim:
    number, other = sizes["N"]
    if key.shape != (number,):
      raise ValueError(
        f"{caller}: expected one key or {number} keys (one per example of {other}), got keys of "
        f"shape {key.shape}."
      )
  if "C" in sizes and isinstance(fill, tuple | list | jax.Array | np.ndarray):
    channels = sizes["C"][0]
    if np.ndim(fill) == 1 and len(fill) != channels:
      raise ValueError(
        f"{caller}: fill must be one number or {channels} (one per channel), got {len(fill)}."
      )


def _refuse_large_steps(caller: str, given: dict, sizes: Sizes) -> None:
  """Compares radius and step of an attack, where they are known, with the box of all pictures."""
  dims = [sizes[dim][0] for dim in "HWC" if dim in sizes]
  largest = 1.0 if given.get("norm", "linf") == "linf" else math.sqrt(math.prod(dims))
  for name in ("epsilon", "step_size"):
    value = given.get(name)
    if value is None or isinstance(value, Tracer) or 0 <= float(value) <= largest:
      continue
    raise ValueError(
      f"{caller}: {name} must be in [0, {largest:.4g}], got {float(value):g}; {name} is in pixel "
      "units of [0, 1]: 8/255, not 8."
    )


# Words.


def _want(argument: Argument) -> str:
  words = [_words(argument.name, form) for form in argument.forms]
  wanted = " or ".join(dict.fromkeys([*words, *argument.words]))
  return f"a sequence of {wanted}" if argument.each else wanted


def _words(name: str, form: Form) -> str:
  axes = f"[{', '.join(form.dims)}]"
  if form.kind == "key":
    one = "a typed key, jax.random.key(seed)"
    keys = "typed keys, one per example" if form.dims else one
    return f"{one}, or one per example" if form.dims == ("*n",) else keys
  if not form.dims:
    return {"int": "an integer", "bool": "True or False"}.get(form.kind, "a number")
  if form.kind == "float" and _ROLES.get(name) == "picture":
    one = "float32 pictures" if len(form.dims) == 4 else "one float32 picture"
    return f"{one} {axes} in [0, 1]"
  if form.kind == "int" and name == "labels":
    return f"class numbers int32{axes}"
  if form.kind == "float" and name in _ROLES:
    return f"probabilities float32{axes}"
  return {"float": "float32", "int": "int32", "any": "an array "}.get(form.kind, form.kind) + axes


def _got(value: Any) -> str:
  if _is_array(value):
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
  if isinstance(value, bool | int | float | str | types.NoneType):
    return f"{value!r}"[:60]
  if isinstance(value, list | tuple):
    return f"a {type(value).__name__} of {len(value)}"
  return f"a {type(value).__name__}"


def _remedy(argument: Argument, value: Any) -> str:
  """Returns what to do about it, after a semicolon, or nothing."""
  wanted = {form.kind for form in argument.forms}
  ranks = {len(form.dims) for form in argument.forms}
  name, kind, ndim, dtype, advice = argument.name, "", -1, "", ""
  if _is_array(value):
    kind, ndim, dtype = kind_of(value.dtype), value.ndim, str(value.dtype)
  if _is_linen(value):
    advice = "of a Linen module take models.logits_fn_from_linen(module, variables)"
  elif "key" in wanted and kind != "key":
    advice = "make one with jax.random.key(seed); legacy keys: jax.random.wrap_key_data(key)"
  elif "int" in wanted and dtype in ("int64", "uint64", "uint32"):
    advice = "its values do not fit into int32"
  elif "key" in wanted and ndim:
    advice = "pass one key, key[0] say"
  elif "float" in wanted and kind == "int" and (4 in ranks or ndim >= 3):
    advice = f"divide by 255: {name}.astype(jnp.float32) / 255"
  elif 4 in ranks and ndim == 3:
    advice = f"one picture is a batch of one: {name}[None]"
  elif ranks == {3} and ndim == 4:
    advice = "give one picture, or lift the function to batches with jax.vmap"
  elif wanted == {"float"} and ranks == {2} and kind == "int" and ndim == 1:
    advice = f"make them of class numbers with jax.nn.one_hot({name}, num_classes)"
  elif "int" in wanted and ndim == 2 and (kind == "float" or "float" not in wanted):
    advice = f"class numbers are {name}.argmax(-1)"
  elif "int" in wanted and ndim == 2:
    advice = f"rows of probabilities are {name}.astype(jnp.float32)"
  elif wanted == {"int"} and kind == "float":
    advice = f"whole numbers are {name}.astype(int)"
  elif wanted == {"float"} and kind in ("int", "bool"):
    advice = f"pass {name}.astype(jnp.float32)"
  elif wanted == {"bool"} and kind in ("int", "float"):
    advice = f"pass {name} > 0"
  return f"; {advice}" if advice else ""


# Values.


def _look(
  caller: str, name: str, value: Any, sizes: Sizes, *, values: Values, role: str = ""
) -> None:
  """Raises for values that are no pictures, labels or probabilities, where it may look at them."""
  role = role or _ROLES[name]
  if role == "labels" and kind_of(value.dtype) == "float":
    role = "rows"
  if not value.size or kind_of(value.dtype) != ("int" if role == "labels" else "float"):
    return
  num_classes = sizes["K"][0] if "K" in sizes else None
  judge = functools.partial(_judge, caller, name, role, num_classes)
  if isinstance(value, np.ndarray):
    judge(*_extremes(role, value, np))
  elif isinstance(value, Tracer):
    if DEBUG and values != "known":
      jax.debug.callback(judge, *_extremes(role, value, jnp))
  elif (DEBUG or values != "debug") and value.is_fully_addressable:
    with jax.ensure_compile_time_eval():  # a known array inside of a traced function
      found = _extremes(role, value, jnp)
    judge(*jax.device_get(found))


def _extremes(role: str, value: Any, xp: Any) -> tuple[Any, Any]:
  """Returns the two numbers that tell: NaN in the values becomes NaN in them."""
  if role == "rows":
    return value.min(), xp.abs(value.sum(axis=-1) - 1).max()
  return value.min(), value.max()


def _judge(caller: str, name: str, role: str, num_classes: int | None, low: Any, high: Any) -> None:
  low, high = float(low), float(high)
  if role == "picture" and not (low >= -_SLACK and high <= 1 + _SLACK):
    advice = f"clip them: jnp.clip({name}, 0, 1)"
    if low != low:
      advice = "find out where the NaN comes from"
    elif low < -_SLACK:
      advice = "undo the normalisation: it is the model's first layer"
    elif high > 2:
      advice = f"divide by 255: {name} / 255"
    raise ValueError(f"{caller}: {name} must lie in [0, 1], got {low:.4g} to {high:.4g}; {advice}.")
  if role == "labels" and not (low >= 0 and (num_classes is None or high < num_classes)):
    top = "" if num_classes is None else f" to {num_classes - 1}"
    raise ValueError(
      f"{caller}: {name} must be class numbers from 0{top}, got {low:.0f} to {high:.0f}."
    )
  if role == "rows" and not (low >= -_SLACK and high <= _SUM_SLACK):
    raise ValueError(
      f"{caller}: rows of {name} must be probabilities (>= 0, sum 1), got a least value of "
      f"{low:.4g} and a sum that is off by {high:.4g}; of logits take jax.nn.softmax(logits)."
    )
