# SPDX-License-Identifier: Apache-2.0
"""Augmentation speed: ours against PIL and torchvision in worker processes, in one run.

  python benchmarks/augment.py            # this machine, JSON under results/benchmarks/
  python benchmarks/augment.py --quick    # a trial: 32 pixels, one round, no file
  python benchmarks/augment.py --batch=4096 --workers=16   # a GPU

Both sides take turns within a round, so both meet the same weather; quoted are the medians over
rounds and the ratio of medians. Ours is the compiled policy on a batch that lies on the device
(float32 in, float32 out), on a CPU with one virtual device per core. Theirs is the same policy per
picture (uint8 in, float32 out) without the cost of moving results between processes. torchvision
takes part where it is installed, on a GPU also with whole batches there, which share one draw.
"""

import argparse
import concurrent.futures
import datetime
import importlib.util
import json
import multiprocessing
import os
import pathlib
import resource
import shlex
import statistics
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
POLICIES: dict[str, dict[str, Any]] = {
  "trivial_augment_wide": {"name": "trivial_augment_wide"},
  "randaugment": {"name": "randaugment"},
  "autoaugment": {"name": "autoaugment"},
  "augmix": {"name": "augmix"},
  "pixmix": {"name": "pixmix"},
}
TARGETS = {  # times the PIL pipeline at 32 pixels on two cores
  "trivial_augment_wide": 5,
  "autoaugment": 5,
  "augmix": 3,
  "pixmix": 3,
}


def main() -> None:
  arguments = parse()
  os.environ.setdefault(
    "XLA_FLAGS", f"--xla_force_host_platform_device_count={len(os.sched_getaffinity(0))}"
  )
  rows = []
  for size in arguments.sizes:
    with workers(arguments, size) as pool:
      for name in arguments.policies:
        rows.append(measure(arguments, pool, name, size))
        print(json.dumps(rows[-1]), flush=True)
        if not arguments.quick or arguments.out:
          write(arguments, rows)  # also if it is stopped before the last policy
  print("; ".join(map(in_words, rows)))


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
  report = {
    "benchmark": "augment",
    "command": shlex.join(["python", *sys.argv]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "environment": surroundings(),
    "peers": peers(),
    "rows": rows,
    "targets": verdicts(rows),
  }
  out = pathlib.Path(
    arguments.out or ROOT / "results/benchmarks" / f"augment_{hardware_slug()}.json"
  )
  out.parent.mkdir(parents=True, exist_ok=True)
  temporary = out.with_name(f".{out.name}.partial")
  temporary.write_text(json.dumps(report, indent=2) + "\n")
  temporary.replace(out)


def in_words(row: dict[str, Any]) -> str:
  """Says in a line what was found about a policy."""
  ratios = [f"{key} {value}" for key, value in row.items() if key.startswith("ratio")]
  speed = f"{row['policy']} {row['size']} px: {row['images_per_s']} images/s"
  return ", ".join([speed, *ratios])


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description="Augmentation speed against PIL and torchvision.")
  parser.add_argument("--quick", action="store_true", help="first size, one round, no file")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--seconds", type=float, default=1.0, help="per side, policy and round")
  parser.add_argument("--batch", type=int, default=0, help="at 32 pixels; 0: 512")
  parser.add_argument("--sizes", nargs="+", type=int, default=[32, 224], help="pixels")
  parser.add_argument("--workers", type=int, default=2, help="processes of the peers")
  parser.add_argument("--only", choices=("both", "ours"), default="both")
  parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
  parser.add_argument("--out", default="")
  arguments = parser.parse_args()
  if arguments.quick:
    arguments.rounds, arguments.sizes = 1, arguments.sizes[:1]
  return arguments


class NoPool:
  """Stands in for the workers when only our side runs."""

  def __enter__(self) -> None:
    return None

  def __exit__(self, *_: object) -> None:
    return None


def workers(arguments: argparse.Namespace, size: int) -> Any:
  """Returns a pool of fresh processes that know the policies' constants."""
  if arguments.only == "ours":
    return NoPool()
  import pil_pipelines

  from mixboost_jax.augment._autoaugment import CIFAR10

  named = tuple(tuple((op.name.lower(), p, k) for op, p, k in pair) for pair in CIFAR10)
  return concurrent.futures.ProcessPoolExecutor(
    arguments.workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=pil_pipelines.prepare,
    initargs=(size + size // 8, named),
  )


def measure(arguments: argparse.Namespace, pool: Any, name: str, size: int) -> dict[str, Any]:
  batch = arguments.batch or 512
  batch = batch if size == 32 else max(16, batch // 16)
  run, facts = ours(name, size, batch)
  ours_speed: list[float] = []
  peer_speed: dict[str, list[float]] = {}
  for r in range(arguments.rounds):
    ours_speed.append(run(arguments.seconds))
    if pool is not None:
      for peer, speed in theirs(arguments, pool, name, size, batch, r).items():
        peer_speed.setdefault(peer, []).append(speed)
  row: dict[str, Any] = {"policy": name, "size": size, "batch": batch, **facts}
  row["images_per_s"] = round(statistics.median(ours_speed))
  row["images_per_s_range"] = [round(min(ours_speed)), round(max(ours_speed))]
  for peer, speeds in peer_speed.items():
    words = peer if peer.endswith("_batch") else f"{peer}_{arguments.workers}_workers"
    row[f"{words}_images_per_s"] = round(statistics.median(speeds))
    row[f"{peer}_range"] = [round(min(speeds)), round(max(speeds))]
    ratio = "ratio" if peer == "pil" else f"ratio_{peer}"
    row[ratio] = round(statistics.median(ours_speed) / statistics.median(speeds), 2)
  return row


def ours(name: str, size: int, batch: int) -> tuple[Any, dict[str, Any]]:
  """Compiles a policy; returns `run(seconds) -> images/s` and compile time and memory."""
  import jax
  import jax.numpy as jnp
  from jax.sharding import NamedSharding, PartitionSpec

  from mixboost_jax import augment

  mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  key = jax.random.key(0)
  shape = (64, size + size // 8, size + size // 8, 3)
  mixing = jax.random.bits(jax.random.key(1), shape, jnp.uint8)
  fn = augment.build(POLICIES[name], mixing_images=mixing, mesh=mesh)
  levels = jax.random.bits(key, (batch, size, size, 3), jnp.uint8)
  images = jax.device_put(levels.astype(jnp.float32) / 255, sharding)
  each = jax.device_put(jax.random.split(key, batch), sharding)

  def step(keys: jax.Array, pictures: jax.Array) -> jax.Array:
    return fn(keys, pictures, jnp.zeros((batch, 1)))[0]

  jitted = jax.jit(step, in_shardings=(sharding, sharding), out_shardings=sharding)
  start, cpu_start = time.perf_counter(), time.process_time()
  lowered = jitted.lower(each, images)
  traced = time.perf_counter()
  compiled = lowered.compile()
  facts: dict[str, Any] = {
    "trace_s": round(traced - start, 2),
    "compile_s": round(time.perf_counter() - traced, 2),
    "trace_and_compile_cpu_s": round(time.process_time() - cpu_start, 2),
    "devices": len(jax.devices()),
  }
  jax.block_until_ready(compiled(each, images))
  memory = compiled.memory_analysis()
  if memory is not None:
    facts["temporary_mib_per_device"] = round(memory.temp_size_in_bytes / 2**20, 1)
  facts["process_peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

  def run(seconds: float) -> float:
    begin, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds:
      jax.block_until_ready(compiled(each, images))
      calls += 1
    return calls * batch / elapsed

  run(0.2)
  return run, facts


def theirs(
  arguments: argparse.Namespace, pool: Any, name: str, size: int, batch: int, seed: int
) -> dict[str, float]:
  """Returns pictures per second of every peer that is here and has the policy."""
  import pil_pipelines

  processes = {"pil": pil_pipelines.process}
  if has_torchvision():
    import torchvision_pipelines

    if name in torchvision_pipelines.PIPELINES:
      processes["torchvision"] = torchvision_pipelines.process
  found = {}
  for peer, process in processes.items():
    tasks = [
      pool.submit(process, name, size, arguments.seconds, seed * arguments.workers + w)
      for w in range(arguments.workers)
    ]
    found[peer] = sum(count / elapsed for count, elapsed in (task.result() for task in tasks))
  if "torchvision" in found:
    options = (name, size, batch, arguments.seconds, seed)
    count, elapsed = pool.submit(torchvision_pipelines.process_batch, *options).result()
    found |= {"torchvision_batch": count / elapsed} if count else {}
  return found


def has_torchvision() -> bool:
  return importlib.util.find_spec("torchvision") is not None


def peers() -> dict[str, str]:
  """Says which other augmentation library is here; no other one on JAX has these policies."""
  found = {"torchvision": "installed" if has_torchvision() else "not installed: not run"}
  for module, title in (("dm_pix", "dm_pix"), ("keras", "keras")):
    found[title] = "not installed"
    if any((pathlib.Path(p) / module).is_dir() for p in sys.path if p):
      found[title] = "installed; has no AutoAugment, AugMix or PixMix on JAX arrays: not run"
  return found


def verdicts(rows: list[dict[str, Any]]) -> dict[str, str]:
  found = {}
  for row in rows:
    target = TARGETS.get(row["policy"])
    if row["size"] == 32 and target and "ratio" in row:
      met = "met" if row["ratio"] >= target else "missed"
      found[row["policy"]] = f"{row['ratio']}x, target {target}x: {met}"
  slowest = max(row["trace_s"] + row["compile_s"] for row in rows)
  met = "met" if slowest <= 5 else "missed"
  found["first call"] = f"slowest {slowest:.1f} s, target 5 s: {met}"
  return found


def surroundings() -> dict[str, Any]:
  import PIL

  from mixboost_jax.runtime import environment

  facts = environment.describe()
  facts["versions"]["pillow"] = PIL.__version__
  return facts | {"load": [round(v, 1) for v in os.getloadavg()]}


def hardware_slug() -> str:
  import jax

  if jax.default_backend() == "cpu":
    return f"cpu{len(os.sched_getaffinity(0))}"
  kind = "".join(c if c.isalnum() else "-" for c in jax.devices()[0].device_kind.lower())
  return f"{kind}-x{len(jax.devices())}"


if __name__ == "__main__":
  main()
