# SPDX-License-Identifier: Apache-2.0
import threading
import types

import jax
import jax.numpy as jnp
import pytest

from mixboost_jax.runtime import profile


def test_only_compilations_after_the_first_call_of_a_program_count():
  step, other = jax.jit(lambda x: x + 1), jax.jit(lambda x: 2 * x)
  two, three, four, five = (jnp.zeros(n) for n in (2, 3, 4, 5))
  with profile.Recompilations() as counter:

    def call(name, program, x):
      with counter.during(name):
        program(x)
      return counter.drain()

    assert call("step", step, two) == 0  # compiles for the first time
    assert call("step", step, two) == 0
    assert call("step", step, three) == 1
    assert call("other", other, two) == 0
    step(four)  # nobody asked
    assert counter.drain() == 0
    worker = threading.Thread(target=lambda: step(five))
    with counter.during("step"):
      worker.start()
      worker.join()
    assert counter.drain() == 0, "another thread compiled"
  with counter.during("step"):
    step(jnp.zeros(6))
  assert counter.drain() == 0, "nobody listens any more"


def event(name, start, end, **stats):
  return types.SimpleNamespace(
    name=name, start_ns=start, duration_ns=end - start, stats=list(stats.items())
  )


def trace(planes):
  """Of plane -> lines, each a (name, events)."""
  return types.SimpleNamespace(
    planes=[
      types.SimpleNamespace(
        name=name,
        lines=[types.SimpleNamespace(name=line, events=events) for line, events in lines],
      )
      for name, lines in planes.items()
    ]
  )


def op(name, start, end):
  return event(name, start, end, hlo_op=name, hlo_module="jit_run", other=1)


def test_operations_count_their_own_time():
  """A loop of 100 us runs two products of 30 us; a second thread runs one of 40 us."""
  first = [op("while.1", 0, 100_000), op("dot.2", 10_000, 40_000), op("dot.2", 50_000, 80_000)]
  second = [op("dot.2", 20_000, 60_000), event("python", 0, 10**9), op("add.3", 60_000, 61_000)]
  found = profile.operations(trace({"/host:CPU": [("a", first), ("b", second)]}))
  assert found == [
    profile.Operation("dot.2", "jit_run", 3, 100e-6),
    profile.Operation("while.1", "jit_run", 1, 40e-6),
    profile.Operation("add.3", "jit_run", 1, 1e-6),
  ]
  rows = profile.table(found, steps=2, origins={"dot.2": "jit(run)/linear"})
  assert rows[0].startswith("3 operations, 0.071 ms per step")
  assert rows[2].split() == ["70.9%", "0.050", "1.5", "dot.2", "jit(run)/linear"]
  assert rows[3].split() == ["28.4%", "0.020", "0.5", "while.1", "jit_run"]


def test_devices_go_before_the_host_and_long_tables_are_cut():
  ops = [event(f"%fusion.{i} = f32[] fusion()", 10 * i, 10 * i + 10 - i % 2) for i in range(50)]
  host, device = ("a", [op("dot", 0, 5)]), ("XLA Ops", ops)
  found = profile.operations(trace({"/host:CPU": [host], "/device:TPU:0": [device]}))
  assert {one.name for one in found} == {f"fusion.{i}" for i in range(50)}
  rows = profile.table(found, steps=1)
  assert len(rows) == 2 + profile.NUM_LISTED + 1
  assert rows[-1].split()[-3:] == ["10", "10", "others"]
  shares = sum(float(row.split()[0].rstrip("%")) for row in rows[2:])
  assert shares == pytest.approx(100, abs=0.05 * len(rows))


@pytest.mark.parametrize(
  ("first", "last", "count", "settle", "expected"),
  [
    (0, 100, 5, 20, [20, 25]),
    (40, 100, 5, 20, [60, 65]),  # resumed
    (0, 12, 5, 20, [7, 12]),  # shorter than a log window
    (0, 3, 5, 20, [1, 3]),  # what there is after the compilation
    (99, 100, 5, 20, []),
  ],
)
def test_which_steps_are_recorded(tmp_path, first, last, count, settle, expected):
  watch = profile.StepProfiler(
    tmp_path, count=count, first_step=first, num_steps=last, settle=settle
  )
  assert [step for step in range(first, last + 1) if watch.due(step)] == expected
  for step in range(first, last):
    ahead = step + watch.steps_left(step)
    assert ahead > step
    assert not [at for at in expected if step < at < ahead], "a call of several steps ends there"


def test_no_trace_is_one_error(tmp_path):
  with pytest.raises(ValueError, match=r"no trace \(\*\.xplane\.pb\) was written"):
    profile.read_trace(tmp_path)
