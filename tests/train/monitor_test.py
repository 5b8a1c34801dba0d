# SPDX-License-Identifier: Apache-2.0
"""The monitor's calls are spaced by what they cost, and a resumed run keeps the distance."""

from mixboost_jax.train.monitor import SpacedMonitor


class Clock:
  """Time passes only when it is told to."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def train(monitor, clock, *, start, stop, per_step=0.1):
  called = []
  for step in range(start + 1, stop + 1):
    clock.now += per_step
    if monitor.due(step):
      logged = monitor(step, lambda images: images)
      called.append((step, logged))
  return called


def make(clock, cost, *, every=10, share=0.05, state=None):
  def measure(logits_fn):
    del logits_fn
    clock.now += cost
    return {"proxy": 2.0}

  return SpacedMonitor(measure, every_steps=every, share=share, state=state, clock=clock)


def test_the_share_holds():
  clock = Clock()
  calls = train(make(clock, 1.0), clock, start=0, stop=2000)
  # A call of 1 s goes with 19 s of training: 190 steps of 0.1 s. The first one is at step 10.
  assert [step for step, _ in calls] == list(range(10, 2001, 190))
  assert all(logged["spacing_steps"] == 190 for _, logged in calls)
  assert calls[-1][1]["share_of_time"] < 0.06
  assert calls[-1][1]["proxy"] == 2.0


def test_cheap_calls_come_as_often_as_asked():
  clock = Clock()
  calls = train(make(clock, 0.01), clock, start=0, stop=100)
  assert [step for step, _ in calls] == list(range(10, 101, 10))


def test_a_resumed_run_goes_on_at_the_same_steps():
  clock = Clock()
  whole = [step for step, _ in train(make(clock, 1.0), clock, start=0, stop=1000)]
  clock = Clock()
  first = make(clock, 1.0)
  before = [step for step, _ in train(first, clock, start=0, stop=300)]
  state = first.state()
  clock = Clock()  # another process, twice as slow
  second = make(clock, 1.0, state=state)
  after = [step for step, _ in train(second, clock, start=300, stop=1000, per_step=0.2)]
  assert before + after == whole
  assert second.steps_left(995) >= 1


def test_the_distance_grows_when_calls_become_dearer():
  clock = Clock()
  cost = [0.1]

  def measure(logits_fn):
    del logits_fn
    clock.now += cost[0]
    return {}

  monitor = SpacedMonitor(measure, every_steps=10, share=0.05, clock=clock)
  train(monitor, clock, start=0, stop=50)
  cost[0] = 2.0
  logged = [values for _, values in train(monitor, clock, start=50, stop=3000)]
  assert logged[0]["spacing_steps"] > 200
  assert logged[-1]["share_of_time"] < 0.06


def test_evaluations_do_not_count_as_steps():
  clock = Clock()
  monitor = make(clock, 1.0)
  for step in range(1, 11):
    clock.now += 0.1
    if monitor.due(step):
      assert monitor(step, lambda images: images)["spacing_steps"] == 190
    else:
      clock.now += 100
      monitor.pause()
      monitor.due(step)
