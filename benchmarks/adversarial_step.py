# SPDX-License-Identifier: Apache-2.0
"""Speed of an adversarial training step: ours against an eager PyTorch loop, side by side.

  python benchmarks/adversarial_step.py             # AT and IAT, WRN-16-2; JSON under results/
  python benchmarks/adversarial_step.py --quick     # a trial: WRN-10-1, batch 16, two attack steps

Each side lives in a process of its own and they take turns, as in `train_step.py`; what is quoted
is the ratio of median times per step. A step is flip, crop, PGD in evaluation mode (epsilon 8/255,
step 2/255, random start), for IAT two mixes with a weight and two partners per example, one
train-mode forward of clean and adversarial pictures, backward, SGD with momentum. "erm" is a plain
step on the same batch: how much the attack costs on either side.
PyTorch is needed for its cells only: without it they say "not run".
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import train_step

ROOT = train_step.ROOT
METHODS = ("erm", "at", "iat")


def main() -> None:
  arguments = parse()
  if arguments.worker:
    work(arguments)
    return
  rows = []
  for method in METHODS:
    rows.append(measure(arguments, method))
    print(json.dumps(rows[-1]), flush=True)
  report = {
    "benchmark": "adversarial_step",
    "command": train_step.command_without_paths(),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "environment": train_step.environment(),
    "cells": rows,
    "derived": derive(rows),
  }
  if not arguments.quick:
    name = f"adversarial_step_{train_step.platform()}.json"
    out = pathlib.Path(arguments.out or ROOT / "results/benchmarks" / name)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"wrote {out}")
  print(json.dumps(report["derived"], indent=2))


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--quick", action="store_true")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--seconds", type=float, default=10.0, help="per side, cell and round")
  parser.add_argument("--model", default="wrn-16-2")
  parser.add_argument("--batch", type=int, default=64)
  parser.add_argument("--attack-steps", type=int, default=10)
  parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
  parser.add_argument("--out", default="")
  parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
  parser.add_argument("--method", default="at", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.quick:
    arguments.model, arguments.batch, arguments.attack_steps = "wrn-10-1", 16, 2
    arguments.rounds, arguments.seconds = 1, 1.0
  return arguments


def measure(arguments: argparse.Namespace, method: str) -> dict[str, Any]:
  """Starts both sides and lets them take turns."""
  sides = {side: Worker(arguments, side, method) for side in ("jax", "torch")}
  present = {side: worker for side, worker in sides.items() if "missing" not in worker.first}
  turns: dict[str, list[float]] = {side: [] for side in present}
  for _ in range(arguments.rounds):
    for side, worker in present.items():
      turns[side].append(worker.turn()["step"])
  for worker in sides.values():
    worker.close()
  row: dict[str, Any] = {
    "method": method,
    "model": arguments.model,
    "batch": arguments.batch,
    "attack_steps": arguments.attack_steps if method != "erm" else 0,
  }
  for side, worker in sides.items():
    row[side] = "not run"
    if side in present:
      row[side] = train_step.summary(turns[side], arguments.batch)
      row[side]["first_step_seconds"] = worker.first["first_step"]
  return row


def derive(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Ratios; `ours_over_torch` above 1 means that ours takes longer."""
  plain = rows[0]
  out = []
  for row in rows:
    facts: dict[str, Any] = {"method": row["method"]}
    measured = [side for side in ("jax", "torch") if isinstance(row[side], dict)]
    for side in measured:
      over = row[side]["step_ms"] / plain[side]["step_ms"]
      facts[f"{side}_over_its_erm_step"] = round(over, 2)
    if len(measured) == 2:
      facts["ours_over_torch"] = round(row["jax"]["step_ms"] / row["torch"]["step_ms"], 3)
    out.append(facts)
  return out


class Worker(train_step.Worker):
  """A side in its own process, started from this file."""

  def __init__(self, arguments: argparse.Namespace, side: str, method: str):
    python = sys.executable if side == "jax" else arguments.torch_python
    command = [python, __file__, f"--worker={side}", f"--method={method}"]
    for name in ("seconds", "model", "batch", "attack_steps"):
      command.append(f"--{name.replace('_', '-')}={getattr(arguments, name)}")
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    self.process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
    )
    self.first = self.read()


# A worker: builds one side, reports the first step, then runs whenever it is told to.


def work(arguments: argparse.Namespace) -> None:
  arguments.views, arguments.compute, arguments.cache = 1, "float32", ""
  train_step.serve({"jax": jax_side, "torch": torch_side}[arguments.worker], arguments)


def jax_side(arguments: argparse.Namespace) -> Any:
  """Our trainer, through the public configuration."""
  overrides: dict[str, Any] = {
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 0.0,
    "adversary.name": "none" if arguments.method == "erm" else arguments.method,
    "adversary.num_steps": arguments.attack_steps,
  }
  return train_step.JaxSide(arguments, overrides)


def torch_side(arguments: argparse.Namespace) -> Any:
  """The same mathematics in PyTorch: eager, channels-last; one forward of both kinds."""

  class Side(train_step.TorchSide):
    def __init__(self, arguments: argparse.Namespace):
      super().__init__(arguments)
      self.optimizer = self.torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def steps(self, num: int) -> None:
      torch = self.torch
      for _ in range(num):
        rows = torch.randint(0, 1024, (self.batch,), device=self.device)
        images = self.augment(self.images[rows].float() / 255)
        labels = torch.nn.functional.one_hot(self.labels[rows], 10).float()
        if arguments.method != "erm":
          pairs = [(images, labels), (self.attack(images, labels), labels)]
          if arguments.method == "iat":
            pairs = [self.mixed(*pair) for pair in pairs]
          images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self.model.train()
        loss = torch.nn.functional.cross_entropy(self.model((images - 0.5) / 0.5), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
      self.loss = loss.item()

    def attack(self, images: Any, labels: Any) -> Any:
      torch = self.torch
      self.model.eval()
      epsilon, step = 8 / 255, 2 / 255
      x = (images + torch.empty_like(images).uniform_(-epsilon, epsilon)).clamp(0, 1)
      for _ in range(arguments.attack_steps):
        x.requires_grad_()
        logits = self.model((x - 0.5) / 0.5)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        moved = x.detach() + step * gradient.sign()
        x = torch.clamp(moved, images - epsilon, images + epsilon).clamp(0, 1)
      return x.detach()

    def mixed(self, images: Any, labels: Any) -> Any:
      torch = self.torch
      weight = torch.rand(len(images), device=self.device)
      own, other = (torch.randperm(len(images), device=self.device) for _ in range(2))
      mix = [
        w * x[own] + (1 - w) * x[other]
        for x, w in ((images, weight[:, None, None, None]), (labels, weight[:, None]))
      ]
      return tuple(mix)

  return Side(arguments)


if __name__ == "__main__":
  main()
