# SPDX-License-Identifier: Apache-2.0
"""Half an hour of stops and kills: is the end what it would have been, and does memory stay flat?

  python benchmarks/soak.py --minutes=30 --out=results/benchmarks/soak.json

A small study on the procedural set (training of two networks, then evaluation, interactions and an
audit of each) runs undisturbed once. Then it runs again and again from nothing; whoever works on it
gets SIGTERM or SIGKILL after a random 20 to 90 seconds, and the same command goes on. All that was
measured must be equal bit for bit every time. Memory is that of the process, looked at twice a
second.
"""

import argparse
import collections
import datetime
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mixboost_jax import files  # noqa: E402
from mixboost_jax.runtime import environment, interrupt, results  # noqa: E402

CONFIG = """
from ml_collections import ConfigDict
from mixboost_jax.configs import base

KEYS = {
  "name": "soak",
  "data.train_examples": 1000,
  "data.test_examples": 200,
  "augment.num_mixing_images": 50,
  "model.name": "speedrun-0.25",
  "model.dropout": 0.0,
  "train.batch_size": 50,
  "train.epochs": 4.0,
  "train.checkpoint_every_epochs": 0.25,
  "evaluate.suite": "clean,c:fog:3,c:snow:3,pgd-10",
  "evaluate.batch_size": 100,
  "interactions.num_images": 4,
  "interactions.grid": 4,
  "interactions.pairs_per_image": 6,
  "interactions.contexts": 8,
  "interactions.ratios": (0.0, 0.5, 1.0),
  "interactions.tree_grid": 0,
  "audit.attacks": "oblivious-10,adaptive-10",
  "audit.defenses": "none,mi-ol",
  "audit.num_images": 20,
  "audit.batch_size": 20,
  "audit.num_draws": 3,
  "audit.redraws": 1,
  "audit.pool_examples": 200,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}


def get_config(arg=""):
  config = base.override(base.get_config(), KEYS)
  words = base.VARIANTS["pixmix"] | base.VARIANTS["boost"]
  changed = base.override(base.get_config(), KEYS | words)
  sections = ("augment", "mask", "objective")
  config.runs = ConfigDict({"plain": {}, "boosted": {s: changed[s].to_dict() for s in sections}})
  config.study = ConfigDict({"jobs": ("evaluate", "interactions", "audit")})
  return config
"""
PAUSE = 0.5


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=30.0, help="of stops and kills")
  parser.add_argument("--seed", type=int, default=0, help="of when and how is stopped")
  parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results/benchmarks/soak.json")
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="soak-") as name:
    tree = soak(pathlib.Path(name), arguments.minutes, random.Random(arguments.seed))
  command = shlex.join(["python", "benchmarks/soak.py", *sys.argv[1:]])
  described = environment.describe()
  tree |= {
    "command": command,
    "date": datetime.date.today().isoformat(),
    **{key: described[key] for key in ("hardware", "versions", "git")},
  }
  files.write_json(arguments.out, tree)
  return 0 if tree["equal"] == tree["repetitions"] > 0 else 1


def soak(folder: pathlib.Path, minutes: float, chance: random.Random) -> dict[str, Any]:
  """Runs the study undisturbed, then disturbed until the time is up and the last one is done."""
  config = folder / "soak.py"
  config.write_text(CONFIG)
  wanted, [undisturbed] = study(config, folder / "alone", None)
  deadline = time.monotonic() + 60 * minutes
  equal, lives = [], []
  while time.monotonic() < deadline:
    place = folder / "disturbed"
    found, own = study(config, place, chance)
    equal.append(found == wanted)
    lives += own
    print(f"{len(lives)} lives, {len(equal)} repetitions, {sum(equal)} equal", flush=True)
    shutil.rmtree(place)
  ends = collections.Counter(life["end"] for life in lives)
  peaks = sorted(life["peak_mib"] for life in lives)
  return {
    "minutes": minutes,
    "repetitions": len(equal),
    "equal": sum(equal),
    "lives": len(lives),
    "ends": dict(sorted(ends.items())),
    "seconds_to_leave_after_sigterm": sorted(
      round(life["leaving"], 1) for life in lives if life["end"] == "left after SIGTERM"
    ),
    "peak_mib": {"least": peaks[0], "most": peaks[-1]},
    "undisturbed": undisturbed,
  }


def study(
  config: pathlib.Path, folder: pathlib.Path, chance: random.Random | None
) -> tuple[Any, list[dict[str, Any]]]:
  """Runs a study to its end; returns what it measured, and the lives of its processes."""
  lives = []
  while not lives or lives[-1]["end"] != "done":
    lives.append(life(config, folder, chance))
    print(lives[-1], flush=True)
  kept = {path.stem: results.read(path) for path in sorted((folder / "kept").glob("*.json"))}
  jobs = {metric.name.partition("/")[0] for one in kept.values() for metric in one.metrics}
  if len(kept) != 2 or not {"error", "audit"} <= jobs:  # or nothing would be compared with nothing
    raise RuntimeError(
      f"expected the results of two runs with an audit, got {sorted(kept)}: {jobs}"
    )
  return {name: (one.metrics, one.curves) for name, one in kept.items()}, lives


def life(
  config: pathlib.Path, folder: pathlib.Path, chance: random.Random | None
) -> dict[str, Any]:
  """Starts the command, stops it if it does not end before, and tells how it went."""
  command = [sys.executable, "-m", "mixboost_jax.main", "--job=study", f"--config={config}"]
  command += [f"--workdir={folder}", f"--results={folder / 'kept'}"]
  end = time.monotonic() + chance.uniform(20, 90) if chance else float("inf")
  blow = chance.choice((signal.SIGTERM, signal.SIGKILL)) if chance else None
  memory, leaving = [], 0.0
  with open(folder.with_suffix(".log"), "ab") as log:
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    while process.poll() is None:
      memory.append(resident(process.pid))
      if blow and time.monotonic() >= end:
        started = time.monotonic()
        process.send_signal(blow)
        process.wait()
        leaving = time.monotonic() - started
        break
      time.sleep(PAUSE)
  code = process.returncode
  ends = {0: "done", interrupt.EXIT_PREEMPTED: "left after SIGTERM", -signal.SIGKILL: "killed"}
  if code not in ends or (code and not blow):
    tail = folder.with_suffix(".log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the study ended with exit code {code}:\n{tail}")
  third = len(memory) // 3
  return {
    "end": ends[code],
    "seconds": round(len(memory) * PAUSE),
    "leaving": leaving,
    "peak_mib": max(memory, default=0),
    "peak_mib_by_thirds": [
      max(memory[i * third : (i + 1) * third], default=0) for i in range(3) if third
    ],
  }


def resident(pid: int) -> int:
  """Returns the MiB that a process has in memory; 0 if it is gone."""
  try:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
  except OSError:
    return 0
  lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
  return int(lines[0].split()[1]) // 1024 if lines else 0


if __name__ == "__main__":
  sys.exit(main())
