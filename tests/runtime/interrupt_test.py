# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from mixboost_jax.runtime import interrupt

SCRIPT = """
import sys, time
from mixboost_jax.runtime import interrupt
with interrupt.StopRequest() as stop:
  print("ready", flush=True)
  while not stop.requested:
    time.sleep(0.01)
  print(stop.signal_name, flush=True)
  if sys.argv[1] == "twice":
    time.sleep(60)
sys.exit(interrupt.EXIT_PREEMPTED)
"""


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_a_signal_is_noted_and_handlers_are_put_back(number, capfd):
  before = [signal.getsignal(n) for n in interrupt.SIGNALS]
  with interrupt.StopRequest() as stop:
    assert not stop.requested
    assert not stop.agreed()
    os.kill(os.getpid(), number)
    assert stop.requested
    assert stop.agreed()
    assert stop.signal_name == number.name
    # The second one would act as usual.
    assert [signal.getsignal(n) for n in interrupt.SIGNALS] == before
  assert [signal.getsignal(n) for n in interrupt.SIGNALS] == before
  assert f"{number.name}: saving and leaving; once more" in capfd.readouterr().err


def test_the_end_of_the_time_asks_and_a_signal_may_still_follow(capfd):
  before = signal.getsignal(signal.SIGALRM)
  with interrupt.StopRequest(seconds=0.01) as stop:
    with pytest.raises(interrupt.Stopped), stop.raising():
      threading.Event().wait(60)
    assert stop.requested
    os.kill(os.getpid(), signal.SIGTERM)  # the scheduler's own: no sudden end
    assert stop.signal_name == "SIGTERM"
  assert signal.getsignal(signal.SIGALRM) is before
  assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
  assert "the time is over: saving and leaving" in capfd.readouterr().err
  with interrupt.StopRequest(seconds=60) as stop:
    pass
  assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_handlers_are_put_back_without_a_signal_and_after_an_error():
  before = [signal.getsignal(n) for n in interrupt.SIGNALS]

  def fail():
    with interrupt.StopRequest():
      assert [signal.getsignal(n) for n in interrupt.SIGNALS] != before
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert [signal.getsignal(n) for n in interrupt.SIGNALS] == before


def test_other_threads_are_left_alone():
  seen = []

  def work():
    with interrupt.StopRequest() as stop:
      seen.append(stop.requested)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [False]


def test_within_raising_a_signal_stops_work_that_never_asks():
  def work():
    with stop.raising():
      os.kill(os.getpid(), signal.SIGTERM)
      raise AssertionError("not stopped")

  with interrupt.StopRequest() as stop:
    with stop.raising():
      pass
    with pytest.raises(interrupt.Stopped, match="what is finished is kept"):
      work()
    assert stop.requested
    with pytest.raises(interrupt.Stopped), stop.raising():  # it was asked for before
      raise AssertionError


def test_a_signal_that_a_library_swallows_stops_all_the_same():
  def work():
    with contextlib.suppress(interrupt.Stopped):
      os.kill(os.getpid(), signal.SIGTERM)

  with interrupt.StopRequest() as stop, pytest.raises(interrupt.Stopped), stop.raising():
    work()


def test_asking_answers_signals_only_if_nobody_else_does(capfd):
  def work():
    with interrupt.asking(None) as should_stop:
      assert not should_stop()
      os.kill(os.getpid(), signal.SIGTERM)
      assert should_stop()
      raise interrupt.Stopped("half is kept.")

  before = signal.getsignal(signal.SIGTERM)
  with interrupt.asking(lambda: True) as should_stop:
    assert should_stop()
    assert signal.getsignal(signal.SIGTERM) == before
  with pytest.raises(interrupt.Stopped):
    work()
  assert "half is kept.\n" in capfd.readouterr().err
  assert signal.getsignal(signal.SIGTERM) == before


def test_stopped_ends_a_script_with_the_code_for_again():
  script = "from mixboost_jax.runtime import interrupt; raise interrupt.Stopped('x')"
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
  assert done.returncode == interrupt.EXIT_PREEMPTED
  assert done.stderr == b""


@pytest.mark.parametrize(("times", "code"), [("once", 75), ("twice", -signal.SIGTERM)])
def test_exit_codes(times, code):
  child = subprocess.Popen(
    [sys.executable, "-c", SCRIPT, times], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
  )
  assert child.stdout is not None
  assert child.stdout.readline() == b"ready\n"
  child.terminate()
  assert child.stdout.readline() == b"SIGTERM\n"
  if times == "twice":
    child.terminate()
  assert child.wait(timeout=20) == code
  child.stdout.close()
