# SPDX-License-Identifier: Apache-2.0
"""Training-step speed: ours against PyTorch, side by side in one run.

  python benchmarks/train_step.py                 # all cells of this machine, JSON under results/
  python benchmarks/train_step.py --quick         # a trial: WRN-16-2 only, few steps
  XLA_PYTHON_CLIENT_PREALLOCATE=false python benchmarks/train_step.py --compute=bfloat16 \
    --batch=512 --hurry                           # a GPU, which all sides share

Each side lives in a process of its own and they take turns: both meet the same weather. A cell is
the median time per step; what is quoted is the ratio of medians and the range over rounds. One step
is flip, crop, (mask,) forward, backward, SGD with Nesterov momentum and weight decay. Pictures
lie on the device. PyTorch runs the same mathematics, channels-last, eager and compiled.
PyTorch is needed for its cells only: without it they say "not run". On a chip whose peak is known
(`runtime/targets.py`) the share of it that convolutions and matrix products reach is told, too.
"""

import argparse
import datetime
import functools
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
CELLS = (("wrn-16-2", 128), ("wrn-40-4", 64))
KEEP_RATE = 0.7


def main() -> None:
  arguments = parse()
  if arguments.worker:
    work(arguments)
    return
  cells = CELLS[:1] if arguments.quick else CELLS
  if arguments.models:
    cells = tuple((name, dict(CELLS).get(name, 128)) for name in arguments.models)
  if arguments.batch:
    cells = tuple((name, arguments.batch) for name, _ in cells)
  out = None
  if not arguments.quick:
    name = arguments.out or ROOT / "results/benchmarks" / f"train_step_{platform()}.json"
    out = pathlib.Path(name)
  report: dict[str, Any] = {
    "benchmark": "train_step",
    "command": command_without_paths(),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "environment": environment(),
    "compute": arguments.compute,
  }
  rows = []
  for name, batch in cells:
    for num_views in (1, 2):
      rows.append(measure_cell(arguments, name, batch, num_views))
      print(json.dumps(rows[-1]), flush=True)
      report |= {"cells": rows, "derived": derive(rows)}
      if out is not None:  # also if it is stopped before the last cell
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")
  print(json.dumps(report["derived"], indent=2))
  if out is not None:
    print(f"wrote {out}")
  print("; ".join(map(in_words, rows, derive(rows))))


def in_words(row: dict[str, Any], facts: dict[str, Any]) -> str:
  """Says in a line what was found about a cell."""
  told = ("ours_over", "share_of_peak_jax")
  words = [f"{key} {value}" for key, value in facts.items() if key.startswith(told)]
  cell = f"{row['model']} x{row['batch']}, {row['views']} view(s)"
  return ", ".join([f"{cell}: {row['jax']['step_ms']} ms", *words])


def command_without_paths() -> str:
  """Returns the command as typed, less the place of the interpreter that has PyTorch."""
  words = iter(["python", *sys.argv])
  kept = []
  for word in words:
    if word == "--torch-python":
      next(words, None)
    elif not word.startswith("--torch-python="):
      kept.append(word)
  return shlex.join(kept)


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--quick", action="store_true")
  parser.add_argument("--rounds", type=int, default=4)
  parser.add_argument("--seconds", type=float, default=6.0, help="per side, cell and round")
  parser.add_argument("--batch", type=int, default=0, help="instead of the batch of each cell")
  parser.add_argument("--compute", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
  parser.add_argument("--models", nargs="+", default=[], help="WRN-D-W to measure instead")
  parser.add_argument(
    "--hurry",
    action="store_true",
    help="start all sides at once, ours without compile cache; times until ready are no comparison",
  )
  parser.add_argument("--out", default="")
  parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
  parser.add_argument("--model", default="", help=argparse.SUPPRESS)
  parser.add_argument("--views", type=int, default=1, help=argparse.SUPPRESS)
  parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
  return parser.parse_args()


# The parent: starts one worker per side and lets them take turns.


class Worker:
  """A side in its own process; `turn` makes it run for a while and returns seconds per step."""

  def __init__(self, arguments: argparse.Namespace, side: str, **options: Any):
    python = sys.executable if side == "jax" else arguments.torch_python
    command = [python, __file__, f"--worker={side}", f"--seconds={arguments.seconds}"]
    command += [f"--compute={arguments.compute}"]
    command += [f"--{name}={value}" for name, value in options.items()]
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    self.process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

  @functools.cached_property
  def first(self) -> dict[str, Any]:
    """Facts about start-up, once the first step is done."""
    return self.read()

  def read(self) -> dict[str, Any]:
    assert self.process.stdout is not None
    line = self.process.stdout.readline()
    return json.loads(line) if line else {"missing": "the worker ended early"}

  def turn(self) -> dict[str, Any]:
    assert self.process.stdin is not None
    self.process.stdin.write("go\n")
    self.process.stdin.flush()
    return self.read()

  def close(self) -> None:
    assert self.process.stdin is not None
    self.process.stdin.close()
    self.process.wait()


def measure_cell(
  arguments: argparse.Namespace, name: str, batch: int, num_views: int
) -> dict[str, Any]:
  options = {"model": name, "batch": batch, "views": num_views}
  with tempfile.TemporaryDirectory() as cache:
    sides, cold = started(arguments, cache, options)
    for side, worker in list(sides.items()):
      if "missing" in worker.first:
        sides.pop(side).close()
    if "jax" not in sides:
      sys.exit("our side did not start; the lines above say why")
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(1 if arguments.quick else arguments.rounds):
      for side, worker in sides.items():
        turns[side].append(worker.turn())
    for worker in sides.values():
      worker.close()
  ours = sides["jax"].first
  row: dict[str, Any] = {**options, "flops": ours["flops"], "peak_flops": ours["peak_flops"]}
  row["compile_seconds_cold"] = cold["first_step"]
  row["compile_seconds_warm"] = "not run" if arguments.hurry else ours["first_step"]
  for side in ("jax", "torch", "torch_compiled"):
    if side in sides:
      row[side] = summary([turn["step"] for turn in turns[side]], batch)
      row[side]["first_step_seconds"] = sides[side].first["first_step"]
    else:
      row[side] = "not run"
  row["host_overhead"] = statistics.median(turn["overhead"] for turn in turns["jax"])
  row["devices"] = ours["devices"]
  return row


def started(
  arguments: argparse.Namespace, cache: str, options: dict[str, Any]
) -> tuple[dict[str, Worker], dict[str, Any]]:
  """Returns all sides, and what a first start of ours told, without anything compiled before."""
  peers = ("torch", "torch_compiled")
  if arguments.hurry:
    sides = {side: Worker(arguments, side, **options) for side in ("jax", *peers)}
    return sides, sides["jax"].first
  cold = Worker(arguments, "jax", cache=cache, **options)
  first, sides = cold.first, {"jax": Worker(arguments, "jax", cache=cache, **options)}
  assert sides["jax"].first
  cold.close()
  for side in peers:
    sides[side] = Worker(arguments, side, **options)
    assert sides[side].first  # one after the other
  return sides, first


def summary(rounds: list[float], batch: int) -> dict[str, Any]:
  median = statistics.median(rounds)
  return {
    "step_ms": round(1e3 * median, 2),
    "step_ms_by_round": [round(1e3 * seconds, 2) for seconds in rounds],
    "images_per_second": round(batch / median, 1),
  }


def derive(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Ratios; above 1 means that ours takes longer."""
  out = []
  for row in rows:
    facts = {key: row[key] for key in ("model", "batch", "views")}
    for side in ("torch", "torch_compiled"):
      if isinstance(row[side], dict):
        facts[f"ours_over_{side}"] = round(row["jax"]["step_ms"] / row[side]["step_ms"], 3)
    if row["views"] == 2:
      (single,) = (r for r in rows if r["model"] == row["model"] and r["views"] == 1)
      facts["two_views_over_one"] = round(row["jax"]["step_ms"] / single["jax"]["step_ms"], 3)
    facts["host_overhead_percent"] = round(100 * row["host_overhead"], 2)
    for side in ("jax", "torch", "torch_compiled"):
      if isinstance(row[side], dict) and row.get("peak_flops"):
        possible = row["peak_flops"] * row["devices"] * row[side]["step_ms"] / 1e3
        facts[f"share_of_peak_{side}"] = round(row["flops"] / possible, 4)
    # From loaded data to the end of the first step, less the step: initialisation, compilation.
    for cache in ("cold", "warm"):
      if isinstance(row[f"compile_seconds_{cache}"], str):
        continue
      seconds = row[f"compile_seconds_{cache}"] - row["jax"]["step_ms"] / 1e3
      facts[f"ready_after_seconds_{cache}"] = round(seconds, 2)
    out.append(facts)
  return out


def environment() -> dict[str, Any]:
  code = (
    "import json; from mixboost_jax.runtime import environment; "
    "print(json.dumps(environment.describe()))"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  return json.loads(out.stdout.splitlines()[-1])


def platform() -> str:
  code = "import jax; print(jax.devices()[0].device_kind.lower().replace(' ', '_'))"
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  return out.stdout.split()[-1]


# A worker: builds one side, reports the first step, then runs whenever it is told to.


def work(arguments: argparse.Namespace) -> None:
  sides = {"jax": JaxSide, "torch": TorchSide, "torch_compiled": TorchCompiledSide}
  serve(sides[arguments.worker], arguments)


def serve(make_side: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> None:
  """Builds a side, reports its first step, then takes a turn for every line it is sent."""
  started = time.perf_counter()
  try:
    side = make_side(arguments)
  except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
    return
  side.steps(1)
  first_step = time.perf_counter() - getattr(side, "data_ready_at", started)
  facts = {"first_step": round(first_step, 2), "devices": side.devices, **side.facts()}
  side.steps(2)
  print(json.dumps(facts), flush=True)
  for _ in sys.stdin:
    print(json.dumps(turn(side, arguments.seconds)), flush=True)


def turn(side: Any, seconds: float) -> dict[str, float]:
  begin = time.perf_counter()
  side.steps(1)
  one = time.perf_counter() - begin
  num = max(3, round(seconds / one))
  times = []
  for _ in range(3):
    begin = time.perf_counter()
    side.steps(max(1, num // 3))
    times.append((time.perf_counter() - begin) / max(1, num // 3))
  step = statistics.median(times)
  return {"step": step, "overhead": side.overhead(num, step)}


class JaxSide:
  """Our trainer, through the public configuration."""

  def __init__(self, arguments: argparse.Namespace, changes: dict[str, Any] | None = None):
    from configs import base
    from mixboost_jax import settings as settings_lib
    from mixboost_jax.runtime import platform

    config = base.get_config("boost" if arguments.views == 2 else "")
    self.batch = arguments.batch
    overrides = {
      "data.train_examples": max(1024, 2 * self.batch),  # as many as the peer has
      "data.test_examples": 16,
      "model.name": arguments.model,
      "model.dropout": 0.0,
      "model.compute_dtype": arguments.compute,
      "train.batch_size": self.batch,
      "train.epochs": 0.0,
      "train.steps": 1_000_000,
      "train.log_every_steps": 1_000_000,
      "train.checkpoint_every_epochs": 0.0,
      "runtime.compile_cache": arguments.cache,
      **(changes or {}),
    }
    settings = settings_lib.resolve(base.override(config, overrides))
    platform.prepare(settings.runtime)
    import jax

    from mixboost_jax import data, train
    from mixboost_jax.runtime import mesh

    self.jax = jax
    devices = mesh.devices_for_batch(self.batch)
    self.devices = len(devices)
    dataset = data.load(settings.data)
    self.data_ready_at = time.perf_counter()  # from here: initialisation and compilation
    self.trainer = train.build(settings, dataset, mesh.create(devices=devices))
    self.state = self.trainer.state
    self.order = self.trainer.order(self.trainer.root, self.state.step)
    jax.block_until_ready(self.order)

  def steps(self, num: int) -> None:
    """Runs `num` steps back to back and waits."""
    for _ in range(num):
      # One order serves all steps: the position wraps around within it.
      self.state, self.metrics = self.trainer.step(
        self.state, self.trainer.split, self.order, self.trainer.root
      )
    self.jax.block_until_ready(self.metrics)

  def facts(self) -> dict[str, Any]:
    """Operations of a step, counted before compilation, and what a device can do per second."""
    from mixboost_jax.runtime import programs, targets

    program, *first = self.trainer.step.func, *self.trainer.step.args
    rest = (self.state, self.trainer.split, self.order, self.trainer.root)
    flops = programs.flops(program.trace(*first, *rest).jaxpr)
    kind = self.jax.devices()[0].device_kind.lower()
    chips = [chip for name, chip in targets.CHIPS.items() if name in kind]
    peak = getattr(chips[0], self.trainer.settings.model.compute_dtype) if chips else 0.0
    return {"flops": flops, "peak_flops": peak or None}

  def overhead(self, num: int, step: float) -> float:
    """Share of a step that the host loop adds: its time over that of bare steps, minus 1."""
    from mixboost_jax.train import loop

    class Quiet:
      def write_scalars(self, step: int, scalars: Any) -> None: ...
      def save(
        self, step: int, state: Any, *, metadata: Any, metric: float | None = None
      ) -> None: ...
      def wait(self) -> None: ...

    hooks = loop.Hooks(writer=Quiet(), saver=Quiet())
    start = int(self.state.step)

    def looped(num: int) -> float:
      copy = self.jax.block_until_ready(self.jax.tree.map(lambda x: x.copy(), self.state))
      begin = time.perf_counter()
      loop.run(self.trainer.replace(num_steps=start + num), hooks, state=copy)
      return (time.perf_counter() - begin) / num

    looped(1)  # imports and compiles what logging needs
    with_loop = looped(num)
    begin = time.perf_counter()
    self.steps(num)
    bare = (time.perf_counter() - begin) / num
    del step
    return with_loop / bare - 1


class TorchSide:
  """The same mathematics in PyTorch: channels-last, two forwards for two views."""

  compiled = False

  def __init__(self, arguments: argparse.Namespace):
    import torch

    self.torch = torch
    self.views, self.batch = arguments.views, arguments.batch
    self.device = "cuda" if torch.cuda.is_available() else "cpu"
    self.devices = 1
    if self.device == "cpu":
      torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    self.dtype = getattr(torch, arguments.compute)
    depth, width = (int(part) for part in arguments.model.split("-")[1:])
    model = torch_wide_resnet(torch, depth, width).to(self.device)
    self.model = model.to(memory_format=torch.channels_last)
    if self.compiled:
      self.model = torch.compile(self.model)
    self.optimizer = torch.optim.SGD(
      self.model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    self.images = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8, device=self.device)
    self.labels = torch.randint(0, 10, (1024,), device=self.device)

  def steps(self, num: int) -> None:
    """Runs `num` steps and waits."""
    torch = self.torch
    for _ in range(num):
      rows = torch.randint(0, 1024, (self.batch,), device=self.device)
      images = self.augment(self.images[rows].float() / 255)
      labels = self.labels[rows]
      with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
        logits = self.model((images - 0.5) / 0.5)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        if self.views == 2:
          masked = self.model(self.mask((images - 0.5) / 0.5))
          log_p = torch.log_softmax((logits - masked).float(), -1)
          loss = loss + (log_p.exp() * log_p).sum(-1).mean()
      self.optimizer.zero_grad(set_to_none=True)
      loss.backward()
      self.optimizer.step()
    self.loss = loss.item()

  def facts(self) -> dict[str, Any]:
    return {}

  def augment(self, images: Any) -> Any:
    """Flip and crop with padding 4, a draw per example."""
    torch = self.torch
    num = len(images)
    flip = torch.rand(num, device=self.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    top, left = torch.randint(0, 9, (2, num, 1, 1), device=self.device)
    offsets = torch.arange(32, device=self.device)
    index = torch.arange(num, device=self.device)[:, None, None]
    cropped = padded[index, top + offsets[None, :, None], left + offsets[None, None, :]]
    return cropped.permute(0, 3, 1, 2)

  def mask(self, images: Any) -> Any:
    """Zeroes 30 % of a 16 x 16 grid of cells, a draw per example."""
    torch = self.torch
    ranks = torch.rand(len(images), 256, device=self.device).argsort(1).argsort(1)
    keep = (ranks < int(KEEP_RATE * 256)).float().reshape(-1, 1, 16, 16)
    return images * torch.nn.functional.interpolate(keep, scale_factor=2, mode="nearest")

  def overhead(self, num: int, step: float) -> float:
    del num, step
    return 0.0


class TorchCompiledSide(TorchSide):
  """With `torch.compile`."""

  compiled = True


def torch_wide_resnet(torch: Any, depth: int, width: int) -> Any:
  """A wide residual network with pre-activation, written for this benchmark."""
  nn = torch.nn

  class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int):
      super().__init__()
      self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
      self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
      self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
      self.project = None
      if channels_in != channels:
        self.project = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Any) -> Any:
      activated = torch.relu(self.norm1(x))
      shortcut = x if self.project is None else self.project(activated)
      return shortcut + self.conv2(torch.relu(self.norm2(self.conv1(activated))))

  blocks, channels_in = [], 16
  for channels, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
    for index in range((depth - 4) // 6):
      blocks.append(Block(channels_in, channels, stride if index == 0 else 1))
      channels_in = channels
  return nn.Sequential(
    nn.Conv2d(3, 16, 3, 1, 1, bias=False),
    *blocks,
    nn.BatchNorm2d(channels_in),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(channels_in, 10),
  )


if __name__ == "__main__":
  main()
