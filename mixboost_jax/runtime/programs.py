# SPDX-License-Identifier: Apache-2.0
"""What a compiled program does, read from its text: memory traffic, kernels, exchanges, layouts.

The text of XLA:TPU, XLA:GPU and XLA:CPU has one grammar. A kernel is an instruction of the entry
(or of a loop in it) that does work: a fusion counts once, whatever is inside. Its traffic is what
it reads and writes in main memory; of an operand from which only rows are taken, these rows.
Loops count as often as they run, where the compiler knows how often.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend import core

_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "token": 0, "opaque": 0}
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_ELSEWHERE = re.compile(r"S\([1-9]\)")  # on-chip memory of a TPU, memory of the host
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_NAMES = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body|called_computations)=\{?%([\w.\-]+)")
_BRANCHES = re.compile(
  r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%[\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')

_FREE = frozenset(
  (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "iota",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "add-dependency",
  )
)
_MOVES = frozenset(
  ("copy", "transpose", "reshape", "bitcast", "parameter", "tuple", "get-tuple-element")
)
_CALLS = frozenset(("while", "call", "conditional", "async-start"))
COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_TAKES = ("gather", "dynamic-slice", "slice")
_HOST = ("infeed", "outfeed", "send", "recv")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program."""

  name: str
  type: str
  opcode: str
  inputs: str
  rest: str

  @functools.cached_property
  def operands(self) -> list[str]:
    """Names of what it takes."""
    return _NAMES.findall(self.inputs)

  @functools.cached_property
  def calls(self) -> list[str]:
    """The computations that it runs."""
    found = _CALLED.findall(self.rest)
    for several, one in _BRANCHES.findall(self.rest):
      found += _NAMES.findall(several or one)
    return found


@dataclasses.dataclass(frozen=True)
class Program:
  """A program's computations, by name."""

  header: str
  entry: str
  computations: Mapping[str, Mapping[str, Instruction]]


@dataclasses.dataclass(frozen=True)
class Findings:
  """What `inspect` found; bytes are per device and run.

  Attributes:
    bytes: read from and written to main memory.
    kernels: launched.
    collectives: kind -> (number, bytes that go in; of all-gather, those that come out).
    convolutions: types, as "bf16,bf16->bf16" -> number.
    layout_kernels: that only move values: copies, transpositions.
    layout_bytes: of those.
    convert_kernels: that only change types (and move).
    gathers: number of gather instructions, also inside fusions.
    scatters: likewise.
    sorts: likewise.
    host_transfers: instructions that exchange something with the host.
    aliased: outputs that take the memory of an argument.
    loops: `while` instructions whose number of runs is not known; each counts once.
    cycles: of all kernels, as XLA:TPU expects them (gathers and exchanges are not among them); 0
      where the compiler does not say.
  """

  bytes: float
  kernels: int
  collectives: dict[str, tuple[int, float]]
  convolutions: dict[str, int]
  layout_kernels: int
  layout_bytes: float
  convert_kernels: int
  gathers: int
  scatters: int
  sorts: int
  host_transfers: int
  aliased: int
  loops: int
  cycles: int


def parse(text: str) -> Program:
  """Reads the text of a compiled program (`compiled.as_text()`)."""
  computations: dict[str, dict[str, Instruction]] = {}
  entry, current, header = "", None, ""
  for line in text.splitlines():
    if line.startswith("HloModule"):
      header = line
    elif found := _HEADER.match(line):
      current = computations.setdefault(found[2], {})
      entry = found[2] if found[1] else entry
    elif line.startswith("}"):
      current = None
    elif current is not None and " = " in line:
      one = _instruction(line)
      current[one.name] = one
  return Program(header, entry, computations)


def _instruction(line: str) -> Instruction:
  name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
  end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
  kind, rest = rest[:end], rest[end:].strip()
  start = rest.index("(")
  close = _closing(rest, start)
  inputs, rest = rest[start + 1 : close - 1], f"{rest[:start]} {rest[close:]}"
  opcode, _, rest = rest.partition(" ")
  return Instruction(name.removeprefix("%"), kind, opcode, inputs, rest)


def _closing(text: str, start: int) -> int:
  """Returns the place behind the bracket that closes the one at `start`."""
  depth = 0
  for place in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[place], 0)
    if not depth:
      return place + 1
  raise ValueError(f"programs.parse: unbalanced brackets in {text[:80]!r}.")


def size_of(kind: str, *, everywhere: bool = False) -> float:
  """Returns the bytes of a type, of a tuple all of it; on-chip memory only if `everywhere`."""
  total = 0.0
  for name, sides, layout in _SHAPE.findall(kind):
    if everywhere or not _ELSEWHERE.search(layout):
      count = math.prod(int(side) for side in sides.split(",") if side)
      total += count * _width(name)
  return total


def _width(name: str) -> float:
  bits = re.search(r"\d+", name)
  return _BYTES.get(name, int(bits[0]) / 8 if bits and not name.startswith("f8") else 1)


def inspect(text: str) -> Findings:
  """Counts what a program does per run; see `Findings`."""
  program = parse(text)
  reader = _Reader(program)
  total: Any = collections.Counter()  # some of its entries are fractions
  exchanged: dict[str, tuple[int, float]] = {}
  convolutions = collections.Counter()
  for one, scope, times in reader.work(program.entry, 1):
    size = reader.traffic(one, scope)
    total.update(kernels=times, bytes=size * times)
    if expected := _CYCLES.search(one.rest):
      total["cycles"] += int(expected[1]) * times
    inside = list(reader.inside(one, scope))
    for part, part_scope in inside:
      total[part.opcode] += times
      if types := _convolution(part, part_scope):
        convolutions[types] += times
      if part.opcode in _HOST or "callback" in part.rest or "host" in _target(part):
        total["host"] += times
    kind = one.opcode.removesuffix("-start")
    if kind in COLLECTIVES:
      number, before = exchanged.get(kind, (0, 0.0))
      sent = sum(size_of(scope[name].type, everywhere=True) for name in one.operands)
      if kind == "all-gather":  # the type of its start names both ends
        both = size_of(one.type, everywhere=True)
        sent = both - sent if one.opcode.endswith("-start") else both
      exchanged[kind] = (number + times, before + sent * times)
    opcodes = {part.opcode for part, _ in inside} - {"fusion"}
    if opcodes and opcodes <= _MOVES and opcodes & {"copy", "transpose"}:
      total.update(layout=times, layout_bytes=size * times)
    elif opcodes and opcodes <= _MOVES | {"convert"} and "convert" in opcodes:
      total["converts"] += times
  return Findings(
    bytes=total["bytes"],
    kernels=total["kernels"],
    collectives=exchanged,
    convolutions=dict(sorted(convolutions.items())),
    layout_kernels=total["layout"],
    layout_bytes=total["layout_bytes"],
    convert_kernels=total["converts"],
    gathers=total["gather"],
    scatters=total["scatter"],
    sorts=total["sort"],
    host_transfers=total["host"],
    aliased=program.header.count("may-alias") + program.header.count("must-alias"),
    loops=reader.unknown,
    cycles=total["cycles"],
  )


def _target(one: Instruction) -> str:
  found = _TARGET.search(one.rest)
  return found[1].lower() if found else ""


def _convolution(one: Instruction, scope: Mapping[str, Instruction]) -> str | None:
  """Returns the types of a convolution or matrix product, None for anything else."""
  if one.opcode not in ("convolution", "dot") and "conv" not in _target(one):
    return None
  if one.opcode == "dot" or "convert" in _target(one):
    return None
  sides = [_SHAPE.search(scope[name].type) for name in one.operands[:2] if name in scope]
  out = _SHAPE.search(one.type)
  return f"{','.join(side[1] for side in sides if side)}->{out[1] if out else '?'}"


class _Reader:
  """Walks through a program as it runs."""

  def __init__(self, program: Program):
    self._program, self.unknown = program, 0

  def work(
    self, name: str, times: int
  ) -> Iterator[tuple[Instruction, Mapping[str, Instruction], int]]:
    """Yields what runs in a computation, with its scope, and how often."""
    scope = self._program.computations.get(name, {})
    for one in scope.values():
      if one.opcode in _CALLS:
        yield from self._called(one, times)
      elif one.opcode not in _FREE and not one.opcode.endswith("-done"):
        yield one, scope, times

  def _called(
    self, one: Instruction, times: int
  ) -> Iterator[tuple[Instruction, Mapping[str, Instruction], int]]:
    if one.opcode == "while":
      known = _TRIPS.search(one.rest)
      self.unknown += not known
      times *= int(known[1]) if known else 1
    called = one.calls[:1] if one.opcode == "conditional" else one.calls
    for name in called:
      yield from self.work(name, times)

  def inside(
    self, one: Instruction, around: Mapping[str, Instruction]
  ) -> Iterator[tuple[Instruction, Mapping[str, Instruction]]]:
    """Yields the instructions that a kernel is made of: itself unless it is a fusion."""
    names = one.calls if one.opcode == "fusion" else []
    if not names:
      yield one, around
    for name in names:
      scope = self._program.computations.get(name, {})
      for part in scope.values():
        if part.opcode == "fusion":
          yield from self.inside(part, scope)
        else:
          yield part, scope

  def traffic(self, one: Instruction, scope: Mapping[str, Instruction]) -> float:
    """Returns the bytes of main memory that a kernel reads and writes."""
    out = size_of(one.type)
    if one.opcode in _TAKES:
      return 2 * out
    if one.opcode == "copy-start":  # its type names both ends
      return out
    read = 0.0
    for place, name in enumerate(one.operands):
      if name in scope:
        read += min(size_of(scope[name].type), self._taken(one, place))
    if one.opcode == "fusion":
      out = min(out, self._written(one))
    elif one.opcode in ("dynamic-update-slice", "scatter"):
      return 2 * sum(size_of(scope[n].type) for n in one.operands[1:] if n in scope)
    return read + out

  def _taken(self, one: Instruction, place: int) -> float:
    """Returns what a fusion reads of an operand from which it only takes rows, else infinity."""
    scope = self._body(one)
    number = str(place)
    parameter = next(
      (p for p in scope.values() if p.opcode == "parameter" and p.inputs == number), None
    )
    if parameter is None:
      return math.inf
    users = [p for p in scope.values() if parameter.name in p.operands]
    if users and all(p.opcode in _TAKES and p.operands[0] == parameter.name for p in users):
      return sum(size_of(p.type, everywhere=True) for p in users)
    updated = [p for p in users if p.opcode == "dynamic-update-slice"]
    if updated and len(updated) == len(users) and updated[0].operands[0] == parameter.name:
      return 0.0
    return math.inf

  def _written(self, one: Instruction) -> float:
    """Returns what a fusion writes if it only changes rows of an array, else infinity."""
    last = list(self._body(one).values())[-1:]
    if last and last[0].opcode == "dynamic-update-slice":
      scope = self._body(one)
      update = scope.get(last[0].operands[1])
      return math.inf if update is None else size_of(update.type, everywhere=True)
    return math.inf

  def _body(self, one: Instruction) -> Mapping[str, Instruction]:
    names = one.calls if one.opcode == "fusion" else []
    return self._program.computations.get(names[0], {}) if names else {}


def flops(program: Any) -> float:
  """Returns the FLOPs of all convolutions and matrix products of a traced program.

  Products with padding and with the gaps of a dilation are not counted. Loops count as often as
  they run, of branches the dearest; `while` loops of unknown length count once.

  Args:
    program: a jaxpr, such as `jitted.trace(...).jaxpr`.
  """
  return sum(_flops_of_equation(equation) for equation in getattr(program, "jaxpr", program).eqns)


def _flops_of_equation(equation: Any) -> float:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
  if name == "conv_general_dilated":
    return _convolution_flops(equation)
  inner = [flops(found) for value in params.values() for found in _programs_in(value)]
  if name == "cond":
    return max(inner, default=0.0)
  times = params["length"] if name == "scan" else 1
  if name == "shard_map":  # what each device does
    times = params["mesh"].size
  return times * sum(inner)


def _programs_in(value: Any) -> Iterator[Any]:
  if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
    yield value
  elif isinstance(value, tuple | list):
    for part in value:
      yield from _programs_in(part)


def _convolution_flops(equation: Any) -> float:
  params = equation.params
  numbers = params["dimension_numbers"]
  inputs, kernel = (variable.aval.shape for variable in equation.invars)
  out = equation.outvars[0].aval.shape
  pairs = 1
  for place, axis in enumerate(numbers.lhs_spec[2:]):
    pairs *= _pairs(
      inputs[axis],
      kernel[numbers.rhs_spec[2 + place]],
      out[numbers.out_spec[2 + place]],
      stride=params["window_strides"][place],
      low=params["padding"][place][0],
      gap=params["lhs_dilation"][place],
      spread=params["rhs_dilation"][place],
    )
  rows, channels = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
  return 2.0 * rows * channels * kernel[numbers.rhs_spec[1]] * pairs / params["batch_group_count"]


@functools.cache
def _pairs(size: int, side: int, out: int, *, stride: int, low: int, gap: int, spread: int) -> int:
  """Returns how many (output, tap) pairs along one axis meet an input value."""
  number = 0
  for tap in range(side):
    for place in range(out):
      at = place * stride + tap * spread - low
      number += at % gap == 0 and 0 <= at // gap < size
  return number
