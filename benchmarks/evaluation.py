# SPDX-License-Identifier: Apache-2.0
"""Speed of evaluation: the whole -C set, PGD-20 and AutoAttack, against the authors' code.

usage: python benchmarks/evaluation.py [--parts corruptions pgd autoattack] [--rounds=3]
         [--corruption-python=PATH --robustness=DIR --c-bar=DIR] [--cifar=DIR]
         [--peer-python=PATH --peer-path=DIR:DIR]

corruptions: seconds for 1,000 pictures of 32x32 under each of the 19 corruptions of -C at five
severities. The reference (see benchmarks/corruptions.py for the paths) corrupts one picture after
the other, so it runs on `--peer-images` of them and is scaled; ours runs on all, sharded over
`--devices` virtual devices, without the seconds of compilation, which are listed apart.

pgd, autoattack: pictures per second on equal weights against foolbox and fra31/auto-attack
(`--peer-path` holds both; `--peer-python` has torch). Both sides take turns in every round; the
ratio is that of medians, above 1 where ours is faster.
"""

import argparse
import collections.abc
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from typing import Any

PLACES = (
  "--corruption-python",
  "--robustness",
  "--c-bar",
  "--cifar",
  "--peer-python",
  "--peer-path",
)
SEVERITIES = (1, 2, 3, 4, 5)


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--parts", nargs="+", default=["corruptions", "pgd", "autoattack"])
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--devices", type=int, default=os.cpu_count())
  parser.add_argument("--images", type=int, default=1000)
  parser.add_argument("--peer-images", type=int, default=100)
  parser.add_argument("--names", nargs="+", default=[], help="of corruptions; all of -C by default")
  parser.add_argument("--severities", type=int, nargs="+", default=list(SEVERITIES))
  parser.add_argument("--attacked", type=int, default=128, help="pictures under PGD")
  parser.add_argument("--auto-attacked", type=int, default=64, help="pictures under AutoAttack")
  parser.add_argument("--auto-steps", type=int, default=500, help="of training what it attacks")
  parser.add_argument("--corruption-python", default=sys.executable)
  parser.add_argument("--robustness", default="")
  parser.add_argument("--c-bar", default="")
  parser.add_argument("--cifar", default="", help="folder that holds cifar-10-batches-py")
  parser.add_argument("--cifar-title", default="CIFAR-10 (a copy)", help="what to call a copy")
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--peer-path", default="")
  parser.add_argument("--out", default="")
  return parser.parse_args()


ARGS = parse()
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  FLAG = f"--xla_force_host_platform_device_count={ARGS.devices}"
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mixup_inference  # noqa: E402
import numpy as np  # noqa: E402
import twin_cnn  # noqa: E402
import twin_network  # noqa: E402
from autoattack import Pictures, public, train  # noqa: E402
from corruptions import ask_peer  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

from mixboost_jax import attacks, corruptions, keys  # noqa: E402
from mixboost_jax.augment import over_mesh  # noqa: E402


def measure_corruptions(
  args: argparse.Namespace, images: np.ndarray
) -> collections.abc.Iterator[dict[str, Any]]:
  """Yields, after each corruption, seconds of all so far on both sides, summed over severities."""
  wanted = args.names or [*corruptions.NAMES["c"], *corruptions.NAMES["c_extra"]]
  mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  pixels = jax.device_put(jnp.asarray(images, jnp.float32) / 255, sharding)
  each = jax.device_put(keys.per_example(jax.random.key(0), len(images)), sharding)
  rows: dict[str, Any] = {}
  for name in wanted:
    programs, compiling = [], time.perf_counter()
    for severity in args.severities:
      program = jax.jit(over_mesh(change(name, severity), mesh=mesh))
      jax.block_until_ready(program(each, pixels))
      programs.append(program)
    row: dict[str, Any] = {"ours_first_run_seconds": time.perf_counter() - compiling}
    ours, busy, peer = [], [], []
    for _ in range(args.rounds):
      begin, begin_busy = time.perf_counter(), time.process_time()
      for program in programs:
        jax.block_until_ready(program(each, pixels))
      ours.append(time.perf_counter() - begin)
      busy.append(time.process_time() - begin_busy)
      if args.robustness:
        peer.append(reference_seconds(args, images, name) * len(images) / args.peer_images)
    row |= {"ours_seconds": statistics.median(ours), "ours_cpu_seconds": statistics.median(busy)}
    if peer:
      row |= {"peer_seconds": statistics.median(peer)}
      row["ratio"] = row["peer_seconds"] / row["ours_seconds"]
    rows[name] = {key: round(value, 4) for key, value in row.items()}
    print(name, json.dumps(rows[name]), flush=True)
    jax.clear_caches()
    yield in_all(len(images), rows)


def in_all(count: int, rows: dict[str, Any]) -> dict[str, Any]:
  """Sums over the corruptions measured so far."""
  report: dict[str, Any] = {"pictures": count, "by_name": rows}
  for side in ("ours", "peer"):
    seconds = [row.get(f"{side}_seconds") for row in rows.values()]
    if None not in seconds:
      report[f"{side}_seconds"] = round(sum(seconds), 3)
  if "peer_seconds" in report:
    report["ratio_of_sums"] = report["peer_seconds"] / report["ours_seconds"]
    report["slower_than_reference"] = [n for n, row in rows.items() if row["ratio"] < 1]
  return report


def change(name: str, severity: int):
  """Returns `(keys, images) -> images` for one corruption."""
  return lambda each, images: corruptions.corrupt(each, images, name=name, severity=severity)


def reference_seconds(args: argparse.Namespace, images: np.ndarray, name: str) -> float:
  """Returns the seconds that the authors' loop takes for `peer_images` at all severities."""
  published = corruptions.BENCHMARK_NAMES.get(name, name)
  jobs = [f"cifar/{published}/{s}/{args.peer_images}" for s in args.severities]
  inputs: dict[str, Any] = {f: str(pathlib.Path(getattr(args, f)).absolute()) for f in FOLDERS}
  inputs |= {"images/cifar": images[: args.peer_images], "jobs": np.array(jobs), "seed": 0}
  out = ask_peer(args.corruption_python, inputs)
  return sum(float(out[f"seconds/{job}"]) for job in jobs)


FOLDERS = ("robustness", "c_bar")


def measure_pgd(
  args: argparse.Namespace, images: np.ndarray, labels: np.ndarray, *, plain: bool
) -> dict:
  """PGD-20 on a WRN-16-2 with random weights: the arithmetic does not depend on them.

  With the convolutions of the built-in networks, or, if `plain`, those of somebody else's network.
  """
  weights = twin_network.init(0, depth=16, width=2)
  params = {name: jnp.asarray(value) for name, value in weights.items()}

  def logits_fn(x):
    return twin_network.jax_logits(params, x, depth=16, width=2, plain=plain)

  setting = {"epsilon": 2 / 255, "step_size": 0.5 / 255, "num_steps": 20}
  mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))

  def attack(each, images, labels):
    return attacks.pgd(each, logits_fn, images, labels, **setting)

  part = PartitionSpec("data")
  program = jax.jit(
    jax.shard_map(attack, mesh=mesh, in_specs=(part,) * 3, out_specs=part, check_vma=False)
  )
  each = keys.per_example(jax.random.key(0), len(images))
  on_device = [jax.device_put(x, sharding) for x in (each, images, labels)]
  arrays = {f"w:{name}": value for name, value in weights.items()}
  arrays |= {"images": images, "labels": labels, "depth": np.array(16), "width": np.array(2)}
  arrays |= {name: np.array(value) for name, value in setting.items()}
  return in_turns(
    args, "pgd", lambda: jax.block_until_ready(program(*on_device)), arrays, len(images)
  )


def measure_autoattack(args: argparse.Namespace, pictures: Pictures) -> dict:
  """Standard AutoAttack on a small trained network; also tells whether the results agree."""
  params = train(*pictures.part(0, 10), num_classes=10, steps=args.auto_steps)
  images, labels = (array[: args.auto_attacked] for array in pictures.part(1, 10))
  run = attacks.AutoAttack(lambda x: twin_cnn.jax_logits(params, x), batch_size=len(images))
  arrays = {f"w:{name}": np.asarray(value) for name, value in params.items()}
  arrays |= {"images": images, "labels": labels, "batch_size": np.array(len(images))}
  arrays |= {"norm": np.array("linf"), "epsilon": np.array(2 / 255)}
  report = in_turns(
    args,
    "autoattack",
    lambda: run(jax.random.key(0), images, labels, epsilon=2 / 255),
    arrays,
    len(images),
  )
  result = run(jax.random.key(0), images, labels, epsilon=2 / 255)
  return {**report, "ours_robust_accuracy": float(result.robust.mean())}


def in_turns(args: argparse.Namespace, what: str, ours, arrays: dict, count: int) -> dict:
  """Runs both sides `rounds` times in turn and returns pictures per second and their ratio."""
  begin = time.perf_counter()
  ours()
  report: dict[str, Any] = {"pictures": count, "first_run_seconds": time.perf_counter() - begin}
  print(what, json.dumps(report), flush=True)
  seconds: dict[str, list[float]] = {"ours": [], "peer": []}
  for _ in range(args.rounds):
    begin = time.perf_counter()
    ours()
    seconds["ours"].append(time.perf_counter() - begin)
    answer = mixup_inference.ask_peer(args.peer_python, what, arrays)
    if answer is not None:
      seconds["peer"].append(answer["seconds"])
      report["peer_device"] = answer["device"]
  for side, values in seconds.items():
    if values:
      report[f"{side}_pictures_per_second"] = count / statistics.median(values)
      report[f"{side}_seconds"] = values
  if seconds["peer"]:
    report["ratio"] = statistics.median(seconds["peer"]) / statistics.median(seconds["ours"])
  print(what, json.dumps(report), flush=True)
  return report


def main() -> None:
  args = ARGS
  if args.peer_path:
    os.environ["PYTHONPATH"] = args.peer_path
  pictures = Pictures(args.cifar, args.cifar_title)
  images, labels = pictures.part(1, 10)
  report: dict[str, Any] = {
    "benchmark": "evaluation",
    "command": " ".join(["python", "benchmarks/evaluation.py", *public(sys.argv[1:], PLACES)]),
    "date": datetime.date.today().isoformat(),
    "pictures": pictures.title,
    "backend": jax.default_backend(),
    "devices": jax.device_count(),
    "jax": jax.__version__,
    "machine": platform.processor() or platform.machine(),
    "cores": os.cpu_count(),
  }
  if "corruptions" in args.parts:
    bytes_ = np.round(images[: args.images] * 255).astype(np.uint8)
    for report["corruptions"] in measure_corruptions(args, bytes_):
      write(args, report)  # also if it is stopped before the last one
  if "pgd" in args.parts:
    some = images[: args.attacked], labels[: args.attacked]
    report["pgd_20"] = measure_pgd(args, *some, plain=False)
    report["pgd_20_plain_convolutions"] = measure_pgd(args, *some, plain=True)
  if "autoattack" in args.parts:
    report["autoattack"] = measure_autoattack(args, pictures)
  write(args, report)
  print("; ".join(f"{part}: {in_words(report[part])}" for part in PARTS if part in report))


PARTS = ("corruptions", "pgd_20", "pgd_20_plain_convolutions", "autoattack")


def write(args: argparse.Namespace, report: dict[str, Any]) -> None:
  path = pathlib.Path(args.out or f"results/benchmarks/evaluation_{jax.default_backend()}.json")
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n")


def in_words(found: dict[str, Any]) -> str:
  """Says in a line what was found about a part."""
  names = ("pictures", "ours_seconds", "ours_pictures_per_second", "ours_robust_accuracy")
  told = {key: found.get(key) for key in (*names, "ratio", "ratio_of_sums")}
  return ", ".join(f"{k} {v:.5g}" for k, v in told.items() if isinstance(v, int | float))


if __name__ == "__main__":
  main()
