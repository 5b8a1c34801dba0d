# SPDX-License-Identifier: Apache-2.0
"""Pictures per second from JPEG files to a batch of 224-pixel random resized crops.

  python benchmarks/input_pipeline.py                    # both sources, 2 workers, a few minutes
  python benchmarks/input_pipeline.py --pictures 24 --batch 8 --rounds 1    # does it run

Ours is what training with `config.data.stream` does: threads, windows drawn by example, uint8
batches on the device. The peer is built like the usual loader of PyTorch with its PIL transforms
(torchvision is not needed for it): worker processes that each make whole batches of crops, mirrored
or not, and hand them over in shared memory. Where Grain is installed it does the same, in threads
and in processes; both are started once and begin a turn with full buffers: up to four batches of
threads, eight of two processes, which count in their favour. All decode with the same Pillow;
nobody converts to float here, which we do on the device. Rounds take turns. Beside the rate stands
the CPU time of a picture, over all threads and processes, which other work disturbs less.

The pictures are made: photograph-like noise of 500 x 375 pixels, quality 90.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import pathlib
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import shared_memory
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image

from mixboost_jax import data, settings
from mixboost_jax.configs import base, imagenet  # pyright: ignore[reportAttributeAccessIssue]
from mixboost_jax.data import pictures, prepare
from mixboost_jax.runtime import environment
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.train import feed

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE = 224
SETTLE = 1.5
"""Seconds in which what still decodes ahead fills its buffers."""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--pictures", type=int, default=512)
  parser.add_argument("--epochs", type=int, default=4)
  parser.add_argument("--batch", type=int, default=64)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=5)
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    make(root / "folder", arguments.pictures)
    make_records(root)
    facts, rates, costs = measure(root, arguments)
  ours = statistics.median(rates["ours, folder"])
  report: dict[str, Any] = {
    "benchmark": "input_pipeline",
    "command": shlex.join(["python", *sys.argv]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "environment": environment.describe(),
    "batch": arguments.batch,
    "workers": arguments.workers,
    "load_average": round(os.getloadavg()[0], 1),
    **facts,
    "ways": {
      way: {
        "pictures_per_second": round(statistics.median(values), 1),
        "slowest_round": round(min(values), 1),
        "fastest_round": round(max(values), 1),
        "over_ours": round(statistics.median(values) / ours, 3),
        "cpu_ms_per_picture": round(1e3 * statistics.median(costs[way]), 3),
      }
      for way, values in rates.items()
    },
  }
  out = ROOT / "results/benchmarks" / "input_pipeline_cpu.json"
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(json.dumps(report, indent=2) + "\n")
  print(json.dumps(report["ways"], indent=2))


def measure(
  root: pathlib.Path, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, list[float]]]:
  """Returns facts about the files, and by way: pictures per second and CPU seconds per picture."""
  files = sorted((root / "folder/train").glob("*/*.jpg"))
  steps = arguments.pictures // arguments.batch * arguments.epochs
  ways: dict[str, Any] = {
    "ours, folder": Ours(root, arguments, threads=arguments.workers),
    "ours, array_record": Ours(root, arguments, threads=arguments.workers, name="tfds"),
    "ours, folder, 1 thread": Ours(root, arguments, threads=1),
    "PIL in processes": Processes(files, arguments.batch, arguments.workers),
  }
  if importlib.util.find_spec("grain"):
    flags.FLAGS([sys.argv[0]])  # of Grain's
    named, options = [str(file) for file in files], (arguments.batch, arguments.workers)
    ways["Grain, threads"] = Grain(named, *options, processes=False)
    ways["Grain, processes"] = Grain(named, *options, processes=True)
  rates: dict[str, list[float]] = {way: [] for way in ways}
  costs: dict[str, list[float]] = {way: [] for way in ways}
  for number in range(arguments.rounds + 1):
    for way, way_run in ways.items():
      time.sleep(SETTLE)
      begin, cpu = time.perf_counter(), time.process_time()
      elsewhere = way_run.run(steps)
      seconds, used = time.perf_counter() - begin, time.process_time() - cpu + elsewhere
      if number:  # the first round warms up: compiled draws, file cache, imports of processes
        rates[way].append(steps * arguments.batch / seconds)
        costs[way].append(used / (steps * arguments.batch))
  ways["PIL in processes"].close()
  mean_bytes = statistics.mean(file.stat().st_size for file in files)
  facts: dict[str, Any] = {"mean_jpeg_kib": round(mean_bytes / 1024, 1), "jpeg_size": "500x375"}
  if "Grain, threads" in ways:
    facts["grain"] = importlib.metadata.version("grain")
  return facts, rates, costs


class Ours:
  """The feed of a trainer, without the training."""

  def __init__(
    self, root: pathlib.Path, arguments: argparse.Namespace, *, threads: int, name: str = "folder"
  ):
    options = {
      "data.name": name,
      "data.stream": "on",
      "data.dir": str(root / ("folder" if name == "folder" else "records")),
      "data.tfds_name": "photos" if name == "tfds" else "",
      "train.batch_size": arguments.batch,
      "runtime.decode_threads": threads,
    }
    run = settings.resolve(base.override(imagenet.get_config(), options))
    mesh = meshes.create(devices=jax.devices()[:1])
    dataset = data.load(run.data)
    steps = len(dataset.train) // arguments.batch * arguments.epochs
    self.feed = feed.Streamed(run, dataset, mesh, jax.random.key(0), num_steps=steps)

  def run(self, steps: int) -> float:
    with self.feed.start(0) as inputs:
      for step in range(steps):
        jax.block_until_ready(inputs(step)[0].images)
    return 0.0


class Processes:
  """Worker processes make whole batches; two per worker are on their way at any time."""

  def __init__(self, files: list[pathlib.Path], batch: int, workers: int):
    self.files, self.batch, self.slots = files, batch, 2 * workers
    size = self.slots * batch * SIZE * SIZE * 3
    self.memory = shared_memory.SharedMemory(create=True, size=size)
    context = multiprocessing.get_context("spawn")
    self.pool = context.Pool(workers, _attach, (self.memory.name, (self.slots, batch)))

  def run(self, steps: int) -> float:
    """Returns the CPU seconds of the workers."""
    elsewhere = 0.0
    for images, used in self._batches(steps):
      jax.block_until_ready(jax.device_put(images))
      elsewhere += used
    return elsewhere

  def _batches(self, steps: int) -> Iterator[tuple[np.ndarray, float]]:
    shape = (self.slots, self.batch, SIZE, SIZE, 3)
    shared = np.ndarray(shape, np.uint8, self.memory.buf)
    order = np.random.default_rng(0).permutation(len(self.files))
    waiting = []
    for step in range(steps + self.slots):
      if step >= self.slots:
        used = waiting.pop(0).get()
        yield shared[step % self.slots].copy(), used
      if step < steps:
        first = step * self.batch % (len(order) // self.batch * self.batch)
        rows = order[first : first + self.batch]
        names = [str(self.files[row]) for row in rows]
        waiting.append(self.pool.apply_async(_make_batch, (step % self.slots, step, names)))

  def close(self) -> None:
    self.pool.terminate()
    self.pool.join()
    self.memory.close()
    self.memory.unlink()


class Grain:
  """Batches without an end; made picture by picture in threads, or whole in each process."""

  def __init__(self, files: list[str], batch: int, workers: int, *, processes: bool):
    import grain

    pictures_ = grain.MapDataset.source(files).seed(0).shuffle().repeat().map_with_index(_make)
    if processes:
      reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
      batches = pictures_.batch(batch).to_iter_dataset(reading)
      batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    else:
      reading = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers * batch)
      batches = pictures_.to_iter_dataset(reading).batch(batch)
    self.batches = iter(batches)

  def run(self, steps: int) -> float:
    """Returns the CPU seconds of the workers."""
    before = self._elsewhere()
    for _ in range(steps):
      jax.block_until_ready(jax.device_put(next(self.batches)))
    return self._elsewhere() - before

  def _elsewhere(self) -> float:
    ticks = 0
    for child in multiprocessing.active_children():
      fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
      ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


_worker: dict[str, Any] = {}


def _attach(name: str, shape: tuple[int, int]) -> None:
  _worker["memory"] = shared_memory.SharedMemory(name)
  _worker["images"] = np.ndarray((*shape, SIZE, SIZE, 3), np.uint8, _worker["memory"].buf)


def _make_batch(slot: int, seed: int, names: list[str]) -> float:
  begin = time.process_time()
  for i, name in enumerate(names):
    _worker["images"][slot, i] = _make(seed * len(names) + i, name)
  return time.process_time() - begin


def _make(seed: int, name: str) -> np.ndarray:
  rng = np.random.default_rng(seed)
  picture = Image.open(name, formats=pictures.FORMATS).convert("RGB")
  left, top, width, height = _window(rng, *picture.size)
  picture = picture.crop((left, top, left + width, top + height))
  picture = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
  if rng.random() < 0.5:
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return np.asarray(picture)


def _window(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
  """8 to 100 % of the area, sides 3:4 to 4:3, ten attempts."""
  for _ in range(10):
    area = width * height * rng.uniform(0.08, 1.0)
    shape = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
    if 0 < columns <= width and 0 < rows <= height:
      left, top = rng.integers(0, width - columns + 1), rng.integers(0, height - rows + 1)
      return int(left), int(top), columns, rows
  side = min(width, height)
  return (width - side) // 2, (height - side) // 2, side, side


def make(root: pathlib.Path, count: int) -> None:
  """Writes noise with the spectrum of photographs, in two classes."""
  for i in range(count + 2):
    rng = np.random.default_rng(i)
    image = np.zeros((375, 500, 3))
    for octave in range(7):
      coarse = rng.normal(size=(3 * 2**octave, 4 * 2**octave, 3)) * 0.55**octave
      levels = ((coarse + 4) * 32).clip(0, 255).astype(np.uint8)
      smooth = Image.fromarray(levels).resize((500, 375), Image.Resampling.BICUBIC)
      image += np.asarray(smooth) / 32.0 - 4
    levels = (128 + 60 * image / image.std()).clip(0, 255).astype(np.uint8)
    place = root / ("train" if i < count else "test") / "ab"[i % 2]
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(place / f"{i:05d}.jpg", quality=90)


def make_records(root: pathlib.Path) -> None:
  """Writes the same files as array_record."""
  place = root / "records" / "photos" / "1.0.0"
  place.mkdir(parents=True)
  splits = {
    split: [
      prepare.Example(file.name, file.read_bytes(), "ab".index(file.parent.name))
      for file in sorted((root / "folder" / split).glob("*/*.jpg"))
    ]
    for split in ("train", "test")
  }
  facts = {"name": "photos", "version": "1.0.0", "class_names": ["a", "b"], "description": ""}
  prepare.write_records(place, splits, image_shape=(None, None, 3), **facts)


if __name__ == "__main__":
  main()
