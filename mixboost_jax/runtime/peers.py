# SPDX-License-Identifier: Apache-2.0
"""The processes of a distributed run watch each other, so that none waits for a dead one.

Left alone, JAX notices a dead process only by its missing heartbeats, after 50 to 100 s, and aborts
in C++. Here every process holds a TCP connection to the first one and says its exit code when it
leaves. What that gives:

- A killed process is noticed within seconds, as its kernel closes the connection; a machine that
  vanishes, within half a minute, as it no longer answers. The others say so in one line and end
  with `EXIT_PREEMPTED`: the same command, run again, goes on from the last checkpoint.
- A process that ends with an error takes the others along, with its own exit code: to run the same
  command again would not help.
- A process that lives but hangs is not noticed.
"""

import atexit
import contextlib
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping

from mixboost_jax.runtime import log
from mixboost_jax.runtime.interrupt import EXIT_PREEMPTED

GRACE_SECONDS = 5.0
"""Given to a process to leave by itself once another one has said that it leaves."""
CONNECT_SECONDS = 60
_NEWS_SECONDS = 2.0
_KEY = "mixboost_jax/peers"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}

on_sudden_end: list[Callable[[], None]] = []
"""Called before a process is ended although its main thread waits for a dead one."""
_watch: "_Watch | None" = None


def start() -> None:
  """Connects this process with the first one. Call it once, after `jax.distributed.initialize`."""
  global _watch
  from jax._src import distributed  # JAX offers no public way to its key-value store

  state = distributed.global_state
  if state.num_processes < 2 or _watch is not None:
    return
  host = str(state.coordinator_address).rpartition(":")[0].strip("[]")
  try:
    if state.process_id == 0:
      lines = _listen(host, state.client, state.num_processes)
    else:
      lines = {0: _connect(host, state.client, state.process_id)}
  except OSError as error:
    log.warn(f"the death of another process will be noticed late: no connection to {host}: {error}")
    return
  _watch = _Watch(lines, is_first=state.process_id == 0)
  atexit.register(lambda: leave(1 if getattr(sys, "last_type", None) else 0))


def settle() -> None:
  """Gives the watch a moment after an error: the death of a process shows as many kinds of them."""
  if _watch is not None:
    _watch.settle()


def leave(code: int) -> None:
  """Tells the others the exit code. With an error it does not return: the process ends here.

  Without other processes, or if it was told before, it does nothing.
  """
  if _watch is not None:
    _watch.leave(code)


def _listen(host: str, client: object, num_processes: int) -> dict[int, socket.socket]:
  family = socket.AF_INET6 if socket.has_dualstack_ipv6() and host not in _LOCAL else socket.AF_INET
  address = ("127.0.0.1" if host in _LOCAL else "", 0)
  dual = family == socket.AF_INET6
  token, lines = secrets.token_hex(16), {}
  with socket.create_server(address, family=family, dualstack_ipv6=dual) as server:
    client.key_value_set(_KEY, f"{server.getsockname()[1]} {token}")  # pyright: ignore
    server.settimeout(CONNECT_SECONDS)
    while len(lines) < num_processes - 1:
      line, _ = server.accept()
      line.settimeout(CONNECT_SECONDS)
      said, _, number = line.recv(64, socket.MSG_WAITALL).decode("ascii", "replace").partition(" ")
      if secrets.compare_digest(said.encode(), token.encode()):
        lines[int(number)] = line
        line.sendall(b"\0")
      else:
        line.close()
  return lines


def _connect(host: str, client: object, number: int) -> socket.socket:
  said = client.blocking_key_value_get(_KEY, CONNECT_SECONDS * 1000)  # pyright: ignore
  port, token = said.split()
  address = ("127.0.0.1" if host in _LOCAL else host, int(port))
  line = socket.create_connection(address, timeout=CONNECT_SECONDS)
  line.sendall(f"{token} {number}".ljust(64).encode())
  if line.recv(1) != b"\0":
    raise ConnectionError("the first process did not answer")
  return line


class _Watch:
  """Reads what the other ends of the lines say; the first process has a line to all others."""

  def __init__(self, lines: Mapping[int, socket.socket], *, is_first: bool):
    self._lines, self._is_first = dict(lines), is_first
    self._news, self._left, self._over = (threading.Event() for _ in range(3))
    self._code = 0
    for line in self._lines.values():
      line.settimeout(None)
      line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
      for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
          line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    threading.Thread(target=self._run, name="peers", daemon=True).start()

  def settle(self) -> None:
    if self._news.wait(_NEWS_SECONDS):
      self._over.wait(3 * GRACE_SECONDS)

  def leave(self, code: int) -> None:
    if self._left.is_set():
      return
    self._code = code
    self._left.set()
    self._say(code)
    if not code:
      return
    if self._is_first:  # JAX aborts the others as soon as the first process is gone
      self._over.wait(2 * GRACE_SECONDS)
    _end(code)

  def _say(self, code: int) -> None:
    for line in self._lines.values():
      with contextlib.suppress(OSError):
        line.sendall(bytes([code & 255]))

  def _run(self) -> None:
    with selectors.DefaultSelector() as selector:
      for number, line in self._lines.items():
        selector.register(line, selectors.EVENT_READ, number)
      while selector.get_map():
        for key, _ in selector.select():
          try:
            said = self._lines[key.data].recv(1)
          except OSError:
            said = b""
          selector.unregister(key.fileobj)
          if said != b"\0":  # no word: gone; zero: it has finished its work
            self._react(key.data, said[0] if said else None)
    self._over.set()

  def _react(self, number: int, code: int | None) -> None:
    """Ends this process, unless it is about to leave by itself."""
    self._news.set()
    if self._code or (self._left.is_set() and code is not None):
      return
    end = EXIT_PREEMPTED if code is None else code
    if self._is_first:
      self._say(end)
    if code is None:
      why = f"process {number} of this run is gone: killed, or its machine is lost"
    else:
      why = f"process {number} of this run has ended with exit code {code}, it says why"
      if self._left.wait(GRACE_SECONDS):
        return
    then = "; the same command goes on from the last checkpoint" if end == EXIT_PREEMPTED else ""
    with contextlib.suppress(OSError):
      os.write(2, f"\nerror: {why}. Leaving with exit code {end}{then}.\n".encode())
      # JAX has noticed as well, and is about to print pages and to abort.
      os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for action in list(on_sudden_end):
      with contextlib.suppress(Exception):
        action()
    if self._is_first:
      self._await_others(number)
    _end(end)

  def _await_others(self, gone: int) -> None:
    """Waits until the others have left: JAX aborts them as soon as the first process is gone."""
    deadline = time.monotonic() + GRACE_SECONDS + _NEWS_SECONDS
    for number, line in self._lines.items():
      with contextlib.suppress(OSError):
        line.settimeout(max(deadline - time.monotonic(), 0.01))
        while number != gone and line.recv(1):
          pass


def _end(code: int) -> None:
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  os._exit(code)
