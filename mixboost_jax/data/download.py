# SPDX-License-Identifier: Apache-2.0
"""Fetches an official archive over https: only when asked, resumable, checked before it counts."""

import http.client
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from mixboost_jax import files
from mixboost_jax.data import cifar

Progress = Callable[[int, int], None]
"""Called with the bytes so far and the bytes in all (0: unknown)."""

_BLOCK = 2**18
_TIMEOUT_S = 60.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def fetch(
  url: str, target: pathlib.Path, *, md5: str, progress: Progress | None = None
) -> pathlib.Path:
  """Downloads `url` to `target` unless the right file is there already.

  The bytes go to `target` + ".part", which a later call takes up again where it stopped; the file
  gets its name only after its checksum, in hexadecimal, was found right. An http address may only
  be on this very machine. Returns `target`.

  Raises:
    ValueError: if the server cannot be reached, the connection ends early (what came is kept), the
      checksum is wrong (nothing is kept), or the disk refuses.
  """
  _check_address(url)
  part = target.with_name(target.name + ".part")
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.alone(target.parent):  # who waits finds the file of the first
      if target.is_file() and cifar.md5_of(target) == md5:
        return target
      _receive(url, part, progress or (lambda done, total: None))
      found = cifar.md5_of(part)
      if found != md5:
        part.unlink()
        raise ValueError(
          f"{url}: MD5 {found}, expected {md5}: damaged on the way or not the official archive; "
          "nothing was kept. Try again, or fetch it by hand and give it as --source."
        )
      os.replace(part, target)
  except OSError as error:
    raise ValueError(
      f"{target}: cannot be written ({error}); choose another folder with --out, "
      "--config.data.dir or free some space."
    ) from error
  return target


def _check_address(url: str) -> None:
  try:
    parts = urllib.parse.urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
  except ValueError:
    is_safe = False
  if not is_safe:
    raise ValueError(
      f"{url!r}: expected an address that starts with https://; fetch the file by hand and give it "
      "as --source."
    )


class _Redirections(urllib.request.HTTPRedirectHandler):
  """Follows only to where a download may come from."""

  def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):
    """Checks the new address first."""
    _check_address(newurl)
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, part: pathlib.Path, progress: Progress) -> None:
  """Appends what is missing to `part`."""
  start = part.stat().st_size if part.exists() else 0
  request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
  try:
    opener = urllib.request.build_opener(_Redirections)
    with opener.open(request, timeout=_TIMEOUT_S) as response:
      start = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
      total = start + int(response.headers.get("Content-Length") or 0)
      with part.open("ab" if start else "wb") as file:
        done = _copy(response, file, start, total, progress)
        file.flush()
        os.fsync(file.fileno())
  except urllib.error.HTTPError as error:
    error.close()
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
      return  # everything is there: the checksum decides
    raise ValueError(f"{url}: the server answers {error.code} ({error.reason}).") from error
  except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
    reason = getattr(error, "reason", error)
    raise ValueError(
      f"{url}: cannot be downloaded ({reason}); run again to go on, or fetch it by hand and give "
      "it as --source."
    ) from error
  if total and done < total:
    raise ValueError(
      f"{url}: the connection ended after {done} of {total} bytes; run again to go on."
    )


def _copy(response: Any, file: Any, start: int, total: int, progress: Progress) -> int:
  done = start
  while block := response.read(_BLOCK):
    file.write(block)
    done += len(block)
    progress(done, total)
  return done


def show_progress(done: int, total: int) -> None:
  """Writes one line to standard error: overwritten on a terminal, every tenth otherwise."""
  share = f"{100 * done / total:5.1f} %" if total else ""
  text = f"{done / 2**20:8.1f} MiB {share}"
  if sys.stderr.isatty():
    end = "\n" if done == total else ""
    sys.stderr.write(f"\r{text}{end}")
  elif total and done * 10 // total != (done - _BLOCK) * 10 // total:
    sys.stderr.write(f"{text}\n")
  sys.stderr.flush()
