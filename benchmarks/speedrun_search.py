# SPDX-License-Identifier: Apache-2.0
"""How the options of `configs/speedrun.py` were chosen: trials on a validation split of CIFAR-10.

usage: PYTHONPATH=. python benchmarks/speedrun_search.py --data DIR [--only WORDS] [--seeds 1]

A trial is one training run on the first 45,000 training pictures; its error on the other 5,000 is
recorded with its processor time, which other work on the machine changes little. Test pictures are
never looked at. Trials that the file of results has are skipped; an interrupted one goes on, and
has no time.
"""

import argparse
import json
import pathlib
import time
from typing import Any

from configs import speedrun
from mixboost_jax import files, jobs, settings
from mixboost_jax.runtime import environment, workdir

COMMAND = "PYTHONPATH=. python benchmarks/speedrun_search.py --data DIR --only WORDS"
PLACE = pathlib.Path("results/benchmarks/speedrun_search.json")
START: dict[str, Any] = {  # what the trials change one by one
  "model.name": "speedrun-0.25",
  "objective.label_smoothing": 0.2,
  "augment.alternate_flip": True,
  "augment.crop_mode": "reflect",
  "optimizer.name": "muon",
  "optimizer.learning_rate": 0.12,
  "optimizer.fixed_norms": True,
  "optimizer.muon_momentum": 0.6,
  "optimizer.momentum": 0.85,
  "optimizer.rest_learning_rate": 0.75,
  "optimizer.bias_factor": 64.0,
  "optimizer.weight_decay": 1e-3,
  "optimizer.warmup_steps": 0,
  "train.batch_size": 512,
  "train.epochs": 2.0,
}
PUBLISHED: dict[str, Any] = {  # airbench94_muon, for a mean loss and logits times 1 / 9
  "model.name": "speedrun-0.5",
  "train.epochs": 4.0,
  "train.batch_size": 2_000,
  "optimizer.learning_rate": 0.24,
  "optimizer.rest_learning_rate": 1.66,
  "optimizer.weight_decay": 4e-3,
}
SHARED = {
  "data.validation_examples": 5_000,
  "train.checkpoint_every_epochs": 1.0,
  "train.evaluate_every_epochs": 0.0,
  "report.num_samples": 0,
  "runtime.tensorboard": False,
}
TRIALS: dict[str, dict[str, Any]] = {
  "start": {},
  "half": {"model.name": "speedrun-0.5"},
  "half-rate-0.24": {"model.name": "speedrun-0.5", "optimizer.learning_rate": 0.24},
  "rate-0.06": {"optimizer.learning_rate": 0.06},
  "rate-0.24": {"optimizer.learning_rate": 0.24},
  "batch-256": {"train.batch_size": 256},
  "batch-1024": {"train.batch_size": 1024},
  "batch-1024-rate-0.24": {"train.batch_size": 1024, "optimizer.learning_rate": 0.24},
  "rest-0.4": {"optimizer.rest_learning_rate": 0.4},
  "rest-1.5": {"optimizer.rest_learning_rate": 1.5},
  "bias-16": {"optimizer.bias_factor": 16.0},
  "free-norms": {"optimizer.fixed_norms": False},
  "smoothing-0.1": {"objective.label_smoothing": 0.1},
  "random-flip": {"augment.alternate_flip": False},
  "zero-border": {"augment.crop_mode": "zero"},
  "muon-momentum-0.85": {"optimizer.muon_momentum": 0.85},
  "decay-0.004": {"optimizer.weight_decay": 4e-3},
  "published": PUBLISHED,
  "published-batch-512": {
    **PUBLISHED,
    "train.batch_size": 512,
    "optimizer.learning_rate": 0.12,
    "optimizer.rest_learning_rate": 0.42,
    "optimizer.weight_decay": 1e-3,
  },
  "sgd": {  # the same without Muon
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.5,
    "optimizer.weight_decay": 5e-4,
    "optimizer.warmup_steps": 20,
    "optimizer.muon_momentum": 0.6,
    "optimizer.fixed_norms": False,
    "optimizer.rest_learning_rate": 0.05,
    "optimizer.bias_factor": 1.0,
  },
}


def run(name: str, *, seed: int, data_dir: str, scratch: pathlib.Path) -> dict[str, Any]:
  """Trains one trial, or the rest of it."""
  config = speedrun.get_config()
  chosen = {**START, **TRIALS[name]}
  config.update_from_flattened_dict({**SHARED, **chosen, "data.dir": data_dir, "seed": seed})
  settings.resolve(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)
  folder = scratch / f"{name}-{seed}"
  resumed, started = folder.exists(), time.process_time()
  if jobs.run(config, folder=folder, job="train", command=f"benchmarks/speedrun_search.py {name}"):
    raise SystemExit(75)
  rows = [
    json.loads(line)
    for line in workdir.Workdir(folder, resumed=True).metrics.read_text().splitlines()
  ]
  last = {key: value for row in rows for key, value in row.items()}
  return {
    "trial": name,
    "seed": seed,
    "changes": TRIALS[name],
    "validation_error": round(last["validation/clean_error"], 2),
    "train_loss": round(last["train/loss"], 4),
    "cpu_seconds": None if resumed else round(time.process_time() - started, 1),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--data", required=True)
  parser.add_argument("--only", default="", help="names of trials, with commas between them")
  parser.add_argument("--seeds", type=int, default=1)
  parser.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path("runs/speedrun_search"))
  chosen = parser.parse_args()
  names = chosen.only.split(",") if chosen.only else list(TRIALS)
  for seed in range(chosen.seeds):
    for name in names:
      record: dict[str, Any] = json.loads(PLACE.read_text()) if PLACE.exists() else {"trials": []}
      if any((one["trial"], one["seed"]) == (name, seed) for one in record["trials"]):
        continue
      found = run(name, seed=seed, data_dir=chosen.data, scratch=chosen.scratch)
      record = json.loads(PLACE.read_text()) if PLACE.exists() else {"trials": []}
      record |= environment.describe() | {"command": COMMAND, "start": START, "shared": SHARED}
      record["trials"].append(found)
      files.write_json(PLACE, record)
      print(json.dumps(found), flush=True)


if __name__ == "__main__":
  main()
