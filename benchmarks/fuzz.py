# SPDX-License-Identifier: Apache-2.0
"""Bad inputs of every kind: is each of them one clear error, soon and in little memory?

  python benchmarks/fuzz.py --out=results/benchmarks/fuzz.json
  python benchmarks/fuzz.py --only=configs,bombs

Data files, archives that unpack without end, configs and results files come from `bad_files.py`,
calls of the public functions from `tests/bad_inputs.py`. Every case runs in a process with a limit
of time and memory. A clear error is a `ValueError` that this package raises itself and that names
the place. Exits 1 if a case ends otherwise and that is not documented.
"""

import argparse
import collections
import datetime
import json
import multiprocessing
import pathlib
import shlex
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import bad_files  # noqa: E402
from mixboost_jax import files  # noqa: E402
from mixboost_jax.runtime import environment  # noqa: E402

SECONDS = 20.0
BYTES = 2**30
"""A case may take so much more memory than the process had before."""
LONGEST = 4000
CLEAR, SAME, DOCUMENTED = "clear error", "reads the same as before", "accepted as documented"
GOOD = (CLEAR, SAME, DOCUMENTED)


def cases() -> list[bad_files.Case]:
  """Returns all cases; those of the public functions if their table is there."""
  try:
    import bad_inputs
  except ImportError:
    return bad_files.cases()
  calls = [
    bad_files.Case("api", name, lambda folder, call=call: call(), word)
    for name, call, word in bad_inputs.cases()
  ]
  return bad_files.cases() + calls


def judge(case: bad_files.Case, folder: pathlib.Path) -> tuple[str, str]:
  """Runs a case and returns the verdict and what was said."""
  try:
    value = case.run(folder)
  except Exception as error:
    return _verdict_of(error, case.word or str(folder)), f"{type(error).__name__}: {error}"
  if case.sound is not None and value == case.sound():
    return SAME, ""
  return (DOCUMENTED, case.accepted) if case.accepted else ("accepted", repr(value)[:200])


def _verdict_of(error: Exception, word: str) -> str:
  if not isinstance(error, ValueError):
    return "foreign error"
  frames = traceback.extract_tb(error.__traceback__)
  own = str(ROOT / "mixboost_jax")
  inside = frames[-1].filename.startswith((own, str(ROOT / "benchmarks/bad_files.py")))
  if isinstance(error, UnicodeError | json.JSONDecodeError) or not inside:
    return "foreign error"
  text = str(error)
  return CLEAR if word in text and len(text) <= LONGEST else "unclear error"


def _serve(connection: Any, known: list[bad_files.Case] | None) -> None:
  """Runs the cases whose numbers come in, until None comes."""
  warnings.simplefilter("ignore")
  if known is None:
    known = cases()
    for name in bad_files.FILES:
      bad_files.sound_value(name)  # so that what is loaded once counts for no case
  connection.send("ready")
  try:
    while (number := connection.recv()) is not None:
      folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
      verdict = judge(known[number], folder)
      shutil.rmtree(folder, ignore_errors=True)
      connection.send(verdict)
  finally:
    if bad_files.sound.cache_info().currsize:
      shutil.rmtree(bad_files.sound(), ignore_errors=True)


class Worker:
  """A process that runs cases one by one and is ended if one takes too long or too much."""

  def __init__(self, known: list[bad_files.Case] | None = None):
    """Starts it; `known` takes the place of all cases, which it makes itself."""
    context = multiprocessing.get_context("spawn")
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, known), daemon=True)
    self._process.start()
    other.close()
    assert self._connection.recv() == "ready"

  def run(self, number: int) -> tuple[str, str, float, int]:
    """Returns verdict, text, seconds and additional bytes; after a stop the worker is gone."""
    begin, before, most = time.monotonic(), self._resident(), 0
    self._connection.send(number)
    while not self._connection.poll(0.01):
      most = max(most, self._resident() - before)
      seconds = time.monotonic() - begin
      stopped = "too slow" if seconds > SECONDS else "too much memory" if most > BYTES else ""
      if stopped or not self._process.is_alive():
        self.stop()
        return stopped or "crash", "", seconds, most
    try:
      verdict, text = self._connection.recv()
    except EOFError:
      self.stop()
      return "crash", "", time.monotonic() - begin, most
    return verdict, text, time.monotonic() - begin, most

  def _resident(self) -> int:
    try:
      pages = pathlib.Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
      return 0
    return int(pages) * 4096

  @property
  def is_alive(self) -> bool:
    return self._process.is_alive()

  def stop(self) -> None:
    self._process.kill()
    self._process.join()

  def finish(self) -> None:
    self._connection.send(None)
    self._process.join(10)


def measure(numbers: list[int], known: list[bad_files.Case]) -> dict[str, Any]:
  """Runs these cases and returns counts, extremes and everything that went wrong."""
  counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  wrong, documented = [], collections.Counter()
  slowest, largest = (0.0, ""), (0, "")
  worker = Worker()
  for number in numbers:
    case = known[number]
    if not worker.is_alive:
      worker = Worker()
    verdict, text, seconds, num_bytes = worker.run(number)
    counts[case.kind][verdict] += 1
    slowest = max(slowest, (round(seconds, 2), case.name))
    largest = max(largest, (round(num_bytes / 2**20), case.name))
    if verdict == DOCUMENTED:
      documented[bad_files.NO_CHECKSUM[text]] += 1
    if verdict not in GOOD:
      wrong.append({"kind": case.kind, "case": case.name, "verdict": verdict, "said": text[:400]})
      print(f"{verdict}: {case.kind}: {case.name}: {text[:200]}", flush=True)
  if worker.is_alive:
    worker.finish()
  return {
    "cases": len(numbers),
    "counts": {kind: dict(sorted(found.items())) for kind, found in counts.items()},
    "wrong": wrong,
    "accepted_as_documented": dict(documented),
    "slowest": {"seconds": slowest[0], "case": slowest[1]},
    "largest": {"additional_mib": largest[0], "case": largest[1]},
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--only", default="", help="kinds: data, bombs, configs, results, api")
  parser.add_argument("--every", type=int, default=1, help="run each n-th case only")
  parser.add_argument("--out", default="", help="JSON file to write")
  arguments = parser.parse_args()
  known = cases()
  kinds = arguments.only.split(",") if arguments.only else sorted({case.kind for case in known})
  numbers = [i for i, case in enumerate(known) if case.kind in kinds][:: arguments.every]
  found = measure(numbers, known)
  for kind, counted in found["counts"].items():
    print(f"{kind}: {', '.join(f'{count} {verdict}' for verdict, count in counted.items())}")
  if arguments.out:
    tree = {
      "command": shlex.join(["python", "benchmarks/fuzz.py", *sys.argv[1:]]),
      "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
      "environment": environment.describe(),
      "limits": {"seconds": SECONDS, "additional_mib": BYTES // 2**20},
      **found,
    }
    files.write_json(arguments.out, tree)
  return 1 if found["wrong"] else 0


if __name__ == "__main__":
  sys.exit(main())
