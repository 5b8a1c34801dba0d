# SPDX-License-Identifier: Apache-2.0

import io
import math
import os

import jax.numpy as jnp
import pytest

from mixboost_jax.runtime import log


def test_a_stream_that_nobody_reads_is_no_error():
  reading, writing = os.pipe()
  with os.fdopen(writing, "w") as stream:
    log.say("heard", stream=stream)
    assert os.read(reading, 9) == b"heard\n"
    os.close(reading)
    log.say("lost", stream=stream)
    print("also what others print later", file=stream, flush=True)
    with log.Progress("x", 2, stream=stream) as bar:
      bar.update(1, force=True)


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (0, "0 s"),
    (59.4, "59 s"),
    (59.6, "1 min 0 s"),
    (185, "3 min 5 s"),
    (3599.7, "1 h 0 min"),
    (7620, "2 h 7 min"),
    (97.0 * 3600, "4 days 1 h"),
    (25 * 3600, "1 day 1 h"),
    (math.inf, "?"),
    (math.nan, "?"),
    (-1, "?"),
  ],
)
def test_durations(seconds, text):
  assert log.format_duration(seconds) == text


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (0.0, "0.00"),
    (0.01234, "0.0123"),
    (1.0, "1.00"),
    (-2.345, "-2.35"),
    (45.67, "45.7"),
    (123.45, "123.5"),
    (5321.4, "5321"),
    (0.00012, "1.2e-04"),
    (1.5e6, "1.5e+06"),
    (math.nan, "nan"),
  ],
)
def test_numbers(value, text):
  assert log.format_number(value) == text


@pytest.mark.parametrize(
  ("rate", "text"),
  [
    (45.64, "45.6 images per second"),
    (12345, "12,345 images per second"),
    (0.05, "3.00 images per minute"),
    (0, ""),
    (math.nan, ""),
  ],
)
def test_rates(rate, text):
  assert log.format_rate(rate, "images") == text


@pytest.mark.parametrize(
  ("fraction", "bar"),
  [(0, "...."), (0.5, "##.."), (0.99, "###."), (1, "####"), (2, "####"), (-1, "....")],
)
def test_bars(fraction, bar):
  line = log.format_line("x", round(100 * fraction), 100, bar_width=4)
  assert line.split()[1] == f"[{bar}]"


def test_lines():
  line = log.format_line(
    "train", 5, 500, rate=1000, seconds_left=125, metrics={"loss": 1.25, "rate": 0.05}
  )
  assert line == (
    "train    5/500    1%  1,000 images per second  loss 1.25  rate 0.0500  2 min 5 s left"
  )
  assert log.format_line("x", 2, 2, bar_width=4) == "x  [####]  2/2  100%"
  assert log.format_line("x", 0, 0) == "x  0/0  100%"


def test_plain_lines_come_no_faster_than_asked():
  stream, clock = io.StringIO(), Clock()
  bar = log.Progress("train", 1000, stream=stream, clock=clock, updates_per_second=2)
  for step in range(1, 1001):
    clock.now += 0.01
    bar.update(step, units=50, metrics={"loss": jnp.float32(2)})
  bar.close()
  lines = stream.getvalue().splitlines()
  assert 19 <= len(lines) <= 21  # ten seconds
  assert "5,000 images per second  loss 2.00" in lines[10]
  assert "\r" not in stream.getvalue()
  # 500 of 1000 steps in five seconds: five more to go
  middle = next(line for line in lines if " 50%" in line)
  assert middle.endswith("5 s left")


def test_a_notebook_is_a_screen_and_a_file_gets_few_lines():
  out_stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
  for stream, rewrites in ((out_stream(), True), (io.StringIO(), False)):
    clock = Clock()
    with log.Progress("x", 600, stream=stream, clock=clock) as bar:
      for step in range(1, 601):
        clock.now += 0.1
        bar.update(step)
    shown = stream.getvalue()
    assert (shown.count("\n") == 1 and "\r" in shown) == rewrites
    assert (shown.count("\n") in (6, 7) and "\r" not in shown) != rewrites


def test_a_notebook_shows_no_message_as_an_error(monkeypatch):
  kind = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
  monkeypatch.setattr("sys.stdout", kind())
  monkeypatch.setattr("sys.stderr", kind())
  log.info("trained")
  log.Progress("x", 1).close()
  assert log.sys.stdout.getvalue().startswith("trained\n")
  assert not log.sys.stderr.getvalue()


def test_the_last_update_is_shown_at_the_end():
  stream, clock = io.StringIO(), Clock()
  with log.Progress("x", 3, stream=stream, clock=clock) as bar:
    for step in (1, 2, 3):
      clock.now += 0.001
      bar.update(step)
  assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1/3", "3/3"]


def test_a_line_can_be_forced_and_is_not_repeated():
  stream, clock = io.StringIO(), Clock()
  with log.Progress("x", 2, stream=stream, clock=clock) as bar:
    bar.update(1)
    clock.now += 0.001
    bar.update(2)
    bar.update(2, force=True)
    bar.update(2, force=True)
  assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1/2", "2/2"]


def test_numbers_are_not_fetched_for_updates_that_are_not_shown():
  class Costly:
    fetched = 0

    def __float__(self):
      Costly.fetched += 1
      return 1.0

  clock = Clock()
  bar = log.Progress("x", 100, stream=io.StringIO(), clock=clock, updates_per_second=1)
  for step in range(1, 51):
    clock.now += 0.1
    bar.update(step, metrics={"loss": Costly()})
  assert Costly.fetched == 5
  bar.close()
  assert Costly.fetched == 6


def test_the_rate_forgets_the_compilation():
  stream, clock = io.StringIO(), Clock()
  bar = log.Progress("x", 10_000, stream=stream, clock=clock)
  clock.now += 300  # compiling
  bar.update(1, units=10)
  for step in range(2, 102):
    clock.now += 1
    bar.update(step, units=10)
  assert "10.0 images per second" in stream.getvalue().splitlines()[-1]


def test_compiling_is_said_and_counts_for_the_time_left_only():
  stream, clock = io.StringIO(), Clock()
  bar = log.Progress("x", 60, stream=stream, clock=clock)
  bar.compiling(more=2)
  assert stream.getvalue() == "x   0/60    0%  compiling\n"
  clock.now += 30
  bar.ready()
  clock.now += 10
  bar.update(20, units=20)  # 2 per second: 20 s of work, and two programs of 30 s
  assert stream.getvalue().splitlines()[-1].endswith("2.00 images per second  1 min 20 s left")
  bar.compiling(more=1)
  clock.now += 10
  bar.update(40, units=20)  # ends it, and tells nothing of the speed
  assert stream.getvalue().splitlines()[-1] == "x  40/60   67%  ? left"
  clock.now += 10
  bar.update(50, units=10)  # 10 s of work, and a program of (30 + 10) / 2 s
  assert stream.getvalue().splitlines()[-1].endswith("1.00 images per second  30 s left")


def test_a_resumed_run_does_not_count_the_steps_before():
  stream, clock = io.StringIO(), Clock()
  bar = log.Progress("x", 200, first_step=100, stream=stream, clock=clock)
  clock.now += 10
  bar.update(110, units=10)
  line = stream.getvalue()
  assert "1.00 images per second" in line
  assert "1 min 30 s left" in line


def test_a_terminal_gets_one_line_that_rewrites_itself(monkeypatch):
  monkeypatch.setenv("COLUMNS", "60")
  stream, clock = Terminal(), Clock()
  bar = log.Progress("train", 100, stream=stream, clock=clock)
  for step in range(1, 101):
    clock.now += 0.1
    bar.update(step, units=1, metrics={"loss": 1.0})
  bar.close()
  text = stream.getvalue()
  assert text.count("\n") == 1
  assert text.endswith("\n")
  shown = text.strip().split("\r")
  assert len(shown) <= 10 * log.BAR_UPDATES_PER_SECOND + 1
  assert max(map(len, shown)) < 60
  assert "100/100" in shown[-1]
  assert "[########################]" in shown[-1]
  assert "[########################]" not in shown[-2]


def test_messages_do_not_land_inside_the_bar(capsys):
  stream, clock = Terminal(), Clock()
  bar = log.Progress("train", 100, stream=stream, clock=clock)
  bar.update(1)
  before = stream.getvalue()
  log.warn("something")
  assert stream.getvalue().removeprefix(before).strip() == ""
  assert stream.getvalue().endswith("\r")
  bar.update(2)  # at once, although the time is not up
  assert "2/100" in stream.getvalue()
  bar.close()
  end = stream.getvalue()
  log.info("later")
  assert stream.getvalue() == end
  assert capsys.readouterr().err == "warning: something\nlater\n"


def test_only_the_first_process_speaks(monkeypatch, capsys):
  monkeypatch.setattr(log, "is_primary", lambda: False)
  stream = io.StringIO()
  with log.Progress("x", 1, stream=stream) as bar:
    bar.update(1, force=True)
  log.info("x")
  assert stream.getvalue() == capsys.readouterr().err == ""
