# SPDX-License-Identifier: Apache-2.0
"""Everything that waits for a GPU, in stages of at most four minutes, the most valuable first.

  launch/gpu_check.sh --data=PLACE [--wheels=DIR] [--minutes=8.5] [--stage tests train]
  launch/gpu_check.sh --rehearse --log=results/benchmarks/gpu_check_rehearsal_cpu.json

Stages: tests (against the host), train (a step against PyTorch), speedrun (training to accuracy),
augment, draws (as recorded on a CPU), evaluate (PGD, AutoAttack, -C), explain (Mixup Inference,
masked forwards), study (Table I until the time is over). A stage writes results/gpu/STAGE.json
after each of its parts and says in a line what it found. What is done is not done again, so the
same command goes on, also on another machine that has these files; what failed is noted with its
message, and the next part starts. Exit code: 0 all done, 1 something failed, 75 something is left
for the same command.

--rehearse runs the same script on a CPU, everything tiny: it shows that it works, and no speed.
PyTorch and torchvision are compared with where they are installed. Only evaluate reads --data
then, a stage may take longer, and the study is left open after a minute: all well is 75 here.

A machine without network needs JAX, Flax, Optax, Orbax, jaxtyping, Pillow, scikit-learn and pytest
(with PyTorch and torchvision to compare with); the rest can be brought as wheels, which hold no
machine code, and CIFAR-10 as one file (benchmarks/jpeg_cifar.py says how it is made up):

  pip download --no-deps -d wheels ml-collections clu tensorboardX beartype

With 15 minutes of a GPU, the first call takes the stages in their order, the second the rest:

  launch/gpu_check.sh --data=carried/cifar10_jpeg.npz --wheels=wheels --minutes=8
  launch/gpu_check.sh --data=carried/cifar10_jpeg.npz --wheels=wheels --minutes=4
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGE_SECONDS = 240
SHORTEST = 5
"""Seconds; with less nothing is started."""
GRACE_SECONDS = 10
EXIT_OPEN = 75  # as a run that was saved and left
DESCRIBE = (
  "import json, clu, ml_collections, tensorboardX; from mixboost_jax.runtime import environment; "
  "print(json.dumps(environment.describe()))"
)
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Where several processes compute on one GPU."""
CPU_TOO = {**SHARED, "JAX_PLATFORMS": "cuda,cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


@dataclasses.dataclass(frozen=True)
class Part:
  """One command of a stage.

  Attributes:
    name: of the part in its stage.
    words: after the interpreter; {data}, {note}, {work} and {minutes} are filled in.
    files: patterns below the work folder: the JSON files it writes, which go into the record.
    variables: of the environment.
  """

  name: str
  words: tuple[str, ...]
  files: tuple[str, ...] = ()
  variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


def benchmark(name: str, words: str, *, script: str, **variables: str) -> Part:
  """Returns a script of this folder that writes one file."""
  command = (f"benchmarks/{script}.py", *shlex.split(words), f"--out={{work}}/{name}.json")
  return Part(name, command, (f"{name}.json",), variables)


def job(name: str, config: str, words: str, *, files: str, data: bool) -> Part:
  """Returns a job of the package, on CIFAR-10 or on the procedural set."""
  where = ("--config.data.dir={data}", "--config.data.note={note}") if data else ()
  command = ("-m", "mixboost_jax.main", f"--config={config}", *shlex.split(words), *where)
  return Part(name, command, (files,))


def stages(small: bool, cifar: bool) -> dict[str, list[Part]]:
  """Returns the parts of every stage; all are there in a rehearsal, with other numbers.

  Args:
    small: a rehearsal.
    cifar: whether there is a folder with CIFAR-10.
  """

  def sized(full: str, tiny: str) -> str:
    return tiny if small else full

  pictures = " --cifar={data}" if cifar else ""
  tests = ("-m", "pytest", "-q", "-W", "default")
  step = sized("--compute=bfloat16 --batch=512 --rounds=2 --seconds=1 --hurry",
               "--compute=bfloat16 --batch=8 --rounds=1 --seconds=0.1 --hurry")  # fmt: skip
  deep, shallow = ("wrn-10-1", "wrn-10-1") if small else ("wrn-40-4", "wrn-16-2")
  drawn = sized(f"--rounds=2 --seconds=0.3 --batch=4096 --workers={os.cpu_count()}",
                "--rounds=1 --seconds=0.1 --batch=16 --policies trivial_augment_wide")  # fmt: skip
  bf16 = sized("--config.model.compute_dtype=bfloat16", "")
  return {
    "tests": [Part("gpu", (*tests, "-m", "gpu", "tests/gpu_test.py"), variables=CPU_TOO)],
    "train": [
      benchmark("step_shallow", f"--models={shallow} {step}", script="train_step", **SHARED),
      benchmark("step_deep", f"--models={deep} {step}", script="train_step", **SHARED),
    ],
    "speedrun": [
      job(
        f"speedrun_{words}".replace("+", "_"),
        f"configs/speedrun.py:{words}",
        f"--config.evaluate.suite=clean {bf16} --workdir={{work}}/speedrun_{words}",
        files=f"speedrun_{words}/results.json",
        data=cifar and not small,
      )
      for words in (("smoke",) if small else ("full", "full+long"))
    ],
    "augment": [
      benchmark(f"augment_{size}", f"--sizes {size} {drawn}", script="augment")
      for size in ((16, 24) if small else (32, 224))
    ],
    "draws": [
      Part("golden", (*tests, *sized("-n 6", "-k masks").split(), "tests/golden_test.py"),
           variables=CPU_TOO),
    ],
    "evaluate": [
      benchmark(name, f"--parts {name} {words}{pictures}", script="evaluation")
      for name, words in (
        ("pgd", sized("--attacked=1024", "--attacked=4 --rounds=1")),
        ("autoattack", sized("--auto-attacked=512", "--auto-attacked=2 --auto-steps=5 --rounds=1")),
        ("corruptions", sized("--images=10000 --severities 3",
                              "--images=8 --severities 1 --names fog --rounds=1")),
      )
    ],
    "explain": [
      benchmark("mixup_inference", sized("--images=256 --rounds=3 --ways 1x16/480 1x64/1920",
                                         "--images=2 --rounds=1 --ways 1x1/30"),
                script="mixup_inference"),
      benchmark("masked_forwards", sized("--pairs=100 --rounds=3 --chunk_size=4096",
                                         "--pairs=1 --contexts=4 --rounds=1"),
                script="interaction_rate"),
    ],
    "study": [
      job(
        "table1",
        sized("configs/studies/table1.py", "configs/studies/table1.py:smoke"),
        f"--job=study {bf16} --minutes={sized('{minutes}', '1')} --workdir={{work}}/table1 "
        "--results={work}/table1_results",
        files="table1_results/*.json",
        data=cifar and not small,
      )
    ],
  }  # fmt: skip


NEED_DATA = ("speedrun", "study")


def main(argv: Sequence[str] | None = None) -> int:
  check = Check(parse(argv))
  check.describe()
  records = [check.stage(name) for name in check.options.stage]
  for record in records:
    print(f"{record['stage']:9} {record['status']:7} {record['seconds']:6.1f} s  {told(record)}")
  if check.options.log:
    check.write(check.options.log, check.logged(records))
  found = {record["status"] for record in records}
  return 1 if "failed" in found else EXIT_OPEN if "open" in found else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  formatter = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
  names = list(stages(False, False))
  help_data = "folder with cifar-10-batches-py, or the .npz that benchmarks/jpeg_cifar.py reads"
  parser.add_argument("--data", type=pathlib.Path, help=help_data)
  parser.add_argument("--wheels", type=pathlib.Path, help="folder of wheels to use as well")
  parser.add_argument("--minutes", type=float, default=8.5, help="for all stages")
  parser.add_argument("--stage", nargs="+", default=names, choices=names, help="all by default")
  parser.add_argument("--rehearse", action="store_true", help="tiny, on a CPU")
  parser.add_argument("--out", type=pathlib.Path, help="folder of the stages' files")
  parser.add_argument("--log", type=pathlib.Path, help="one more file, with all stages")
  parser.add_argument("--commit", help="to note where git does not tell it")
  options = parser.parse_args(argv)
  options.work = pathlib.Path("runs/gpu_rehearsal" if options.rehearse else "runs/gpu_check")
  default = ROOT / ("runs/gpu_rehearsal/stages" if options.rehearse else "results/gpu")
  options.out = (options.out or default).absolute()
  for name in ("data", "wheels", "log"):
    if (path := getattr(options, name)) is not None:
      setattr(options, name, path.expanduser().absolute())
  return options


class Check:
  """One call of the script."""

  def __init__(self, options: argparse.Namespace):
    self.options = options
    self.deadline = time.monotonic() + 60 * options.minutes
    self.work = ROOT / options.work
    self.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    self.environment: dict[str, Any] = {}
    self.note = ""
    self.variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
    self.variables.setdefault("JAX_COMPILATION_CACHE_DIR", str(self.work / "xla"))
    if options.rehearse:
      self.variables |= {"JAX_PLATFORMS": "cpu", "MIXBOOST_REHEARSE": "1"}
    self.variables["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(options.rehearse))
    places = [str(ROOT), self.variables.get("PYTHONPATH", "")]
    if options.wheels:
      places.insert(0, self.install(options.wheels))
    self.variables["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    self.places = [("WHEELS", options.wheels), ("DATA", options.data), (".", ROOT)]
    if options.data and options.data.is_file():
      self.note, options.data = "JPEG", self.unpack(options.data)

  def install(self, wheels: pathlib.Path) -> str:
    """Unpacks wheels beside the installed packages, which stay as they are."""
    found, place = sorted(map(str, wheels.glob("*.whl"))), str(self.work / "site")
    if not found:
      sys.exit(f"error: --wheels={wheels}: expected a folder of .whl files; see --help.")
    words = ["--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", place]
    command = [sys.executable, "-m", "pip", "install", "-q", *words, *found]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
      sys.exit(f"error: --wheels={wheels}: {last_line(done.stderr)}")
    return place

  def unpack(self, file: pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds the pictures of a file."""
    folder = self.work / "data"
    if (folder / "cifar-10-batches-py" / "batches.meta").exists():
      return folder
    command = [sys.executable, "benchmarks/jpeg_cifar.py", str(file), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
      sys.exit(f"error: --data={file}: {last_line(done.stderr)}")
    return folder

  def describe(self) -> None:
    """Notes versions and hardware; ends the program if a package or the GPU is missing."""
    command = [sys.executable, "-c", DESCRIBE]
    done = subprocess.run(command, cwd=ROOT, env=self.variables, capture_output=True, text=True)
    if done.returncode:
      sys.exit(f"error: {last_line(done.stderr)}; wheels can be brought: see --wheels in --help.")
    self.environment = json.loads(done.stdout.splitlines()[-1])
    if self.options.commit:
      self.environment["git"] = {"commit": self.options.commit}
    platform = self.environment["hardware"]["platform"]
    if platform == "cpu" and not self.options.rehearse:
      sys.exit("error: JAX finds no GPU here; --rehearse runs the same script on a CPU.")

  def stage(self, name: str) -> dict[str, Any]:
    """Runs what is open of a stage and returns its record."""
    path = self.options.out / f"{name}.json"
    record = json.loads(path.read_text()) if path.exists() else {"parts": {}, "seconds": 0.0}
    parts = stages(self.options.rehearse, self.options.data is not None)[name]
    if all(record["parts"].get(part.name, {}).get("status") == "done" for part in parts):
      return record
    begun = time.monotonic()
    end = self.deadline
    if name != "study" and not self.options.rehearse:
      end = min(end, begun + STAGE_SECONDS)
    before = record["seconds"]
    for part in parts:
      old = record["parts"].get(part.name, {})
      if old.get("status") == "done":
        continue
      print(f"== {name}: {part.name}", flush=True)
      record["parts"][part.name] = self.part(name, part, old, end)
      found = {record["parts"].get(part.name, {}).get("status", "open") for part in parts}
      record = {
        "stage": name,
        "status": next(word for word in ("failed", "open", "done") if word in found),
        "what": self.what(),
        "date": now(),
        "seconds": round(before + time.monotonic() - begun, 1),
        "environment": self.environment,
        "parts": record["parts"],
      }
      self.write(path, record)
    return record

  def part(self, stage: str, part: Part, old: Mapping[str, Any], end: float) -> dict[str, Any]:
    """Runs one command until it ends or its time does."""
    if stage in NEED_DATA and not (self.options.data or self.options.rehearse):
      return {"status": "failed", "message": "not run: needs --data=DIR with cifar-10-batches-py"}
    left = end - time.monotonic()
    if left < SHORTEST:
      return {**old, "status": "open", "message": "no time was left"}
    self.restore(part, old)
    known = {"data": self.options.data, "note": self.note, "work": self.options.work}
    known["minutes"] = f"{left / 75:.2f}"
    words = [word.format(**known) for word in part.words]
    log, begun = self.work / f"{stage}.{part.name}.log", time.monotonic()
    code = self.run(words, part.variables, log, left)
    text = self.anonymous(log.read_text(errors="replace")).strip().splitlines()
    text = [line for line in text if not line.startswith("report: ")]
    record: dict[str, Any] = {
      "status": {0: "done", EXIT_OPEN: "open"}.get(code or 0, "failed"),
      "command": self.anonymous(shlex.join(["python", *words])),
      "seconds": round(time.monotonic() - begun, 1),
      "files": {self.name(path): self.read(path) for path in self.written(part)},
      "output": text[-3:],
    }
    if code is None:
      record |= {"status": "open", "message": f"stopped after {left:.0f} s, the time it had"}
    elif record["status"] == "failed":
      record |= {"message": text[-1] if text else f"exit code {code}", "output": text[-25:]}
    print(f"   {record['status']} after {record['seconds']} s", *text[-1:], flush=True)
    return record

  def run(
    self, words: Sequence[str], variables: Mapping[str, str], log: pathlib.Path, seconds: float
  ) -> int | None:
    """Returns the exit code of a command; None if it did not end in time."""
    with log.open("w") as sink:
      child = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**self.variables, **({} if self.options.rehearse else variables)},
        stdout=sink,
        stderr=subprocess.STDOUT,
        process_group=0,
      )
      try:
        return child.wait(seconds)
      except subprocess.TimeoutExpired:
        return None
      finally:  # also if this script is stopped
        if child.poll() is None:
          end_group(child)

  def what(self) -> str:
    if self.options.rehearse:
      return "a rehearsal on a CPU, everything tiny: its times say nothing about speed"
    return "measured on the hardware below"

  def logged(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns all stages in one; what their parts measured is in their own files."""
    return {
      "benchmark": "gpu_check",
      "what": self.what(),
      "command": self.anonymous(shlex.join(["launch/gpu_check.sh", *sys.argv[1:]])),
      "date": now(),
      "environment": self.environment,
      "stages": {
        record["stage"]: {
          "status": record["status"],
          "seconds": record["seconds"],
          "date": record["date"],
          "git": record["environment"].get("git"),
          "found": told(record),
          "commands": [part.get("command") for part in record["parts"].values()],
        }
        for record in records
      },
    }

  def written(self, part: Part) -> list[pathlib.Path]:
    return sorted(path for pattern in part.files for path in self.work.glob(pattern))

  def restore(self, part: Part, old: Mapping[str, Any]) -> None:
    """Removes what an earlier try left; a study finds what it had finished on another machine."""
    if not any("*" in pattern for pattern in part.files):
      for path in self.written(part):
        path.unlink()
      return
    for name, content in old.get("files", {}).items():
      path = self.work / name
      if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

  def name(self, path: pathlib.Path) -> str:
    return str(path.relative_to(self.work))

  def read(self, path: pathlib.Path) -> Any:
    try:
      return json.loads(self.anonymous(path.read_text()))
    except ValueError:
      return "not JSON: the part was stopped while it wrote"

  def anonymous(self, text: str) -> str:
    """Replaces the folders of this machine."""
    for name, place in self.places:
      text = text.replace(str(place), name) if place else text
    return text.replace(sys.prefix, "PYTHON").replace(sys.base_prefix, "PYTHON")

  def write(self, path: pathlib.Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)


def end_group(child: subprocess.Popen) -> None:
  """Ends a process and what it started; gives it time to save first."""
  os.killpg(child.pid, signal.SIGTERM)
  try:
    child.wait(GRACE_SECONDS)
  except subprocess.TimeoutExpired:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def told(record: Mapping[str, Any]) -> str:
  """Says in a line what a stage found."""
  parts = record["parts"].items()
  found = {name: [part.get("message"), *part.get("output", [])[-1:]] for name, part in parts}
  return "; ".join(f"{name}: {', '.join(filter(None, dict.fromkeys(words)))}"
                   for name, words in found.items())  # fmt: skip


def now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def last_line(text: str) -> str:
  return (text.strip().splitlines() or ["no message"])[-1]


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
  sys.exit(main())
