# SPDX-License-Identifier: Apache-2.0
"""What a loop around the gradient of a network costs on this backend, rolled and copied out.

  python benchmarks/loops.py

Gradient steps on pictures (the core of every attack) through a wide residual network, four ways:
the convolution gradients that JAX derives, or those rewritten (`rewrite.py`), in a rolled loop or
copied out. The ways take turns; quoted are medians per iteration and their ratio to the rewritten,
rolled one. `loops.py` and `rewrite.py` exist because of this table.
"""

import argparse
import datetime
import json
import pathlib
import shlex
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from mixboost_jax import models, rewrite
from mixboost_jax.runtime import environment

ROOT = pathlib.Path(__file__).resolve().parents[1]
WAYS = {
  f"{kind}, {form}": (kind, unroll)
  for kind in ("rewritten", "derived")
  for form, unroll in (("rolled", 1), ("copied out", True))
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", default="wrn-10-2")
  parser.add_argument("--batch", type=int, default=32)
  parser.add_argument("--steps", type=int, default=4)
  parser.add_argument("--rounds", type=int, default=4)
  arguments = parser.parse_args()
  images = jax.random.uniform(jax.random.key(0), (arguments.batch, 32, 32, 3))
  model = models.create(arguments.model, num_classes=10, key=jax.random.key(1))
  compiled = {}
  for way, (kind, unroll) in WAYS.items():
    begin = time.perf_counter()
    steps = descent(model, arguments.steps, unroll, rewritten=kind == "rewritten")
    program = jax.jit(steps).lower(images).compile()
    compiled[way] = (program, time.perf_counter() - begin)
  seconds: dict[str, list[float]] = {way: [] for way in WAYS}
  for program, _ in compiled.values():
    jax.block_until_ready(program(images))
  for _ in range(arguments.rounds):
    for way, (program, _) in compiled.items():
      begin = time.perf_counter()
      jax.block_until_ready(program(images))
      seconds[way].append((time.perf_counter() - begin) / arguments.steps)
  median = {way: statistics.median(times) for way, times in seconds.items()}
  report: dict[str, Any] = {
    "benchmark": "loops",
    "command": shlex.join(["python", *sys.argv]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "environment": environment.describe(),
    "model": arguments.model,
    "batch": arguments.batch,
    "steps": arguments.steps,
    "ways": {
      way: {
        "iteration_ms": round(1e3 * median[way], 2),
        "over_rewritten_rolled": round(median[way] / median["rewritten, rolled"], 2),
        "compile_seconds": round(compiled[way][1], 2),
      }
      for way in WAYS
    },
  }
  out = ROOT / "results/benchmarks" / f"loops_{jax.devices()[0].device_kind.lower()}.json"
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(json.dumps(report, indent=2) + "\n")
  print(json.dumps(report["ways"], indent=2))


def descent(model: Any, steps: int, unroll: int | bool, *, rewritten: bool) -> Any:
  """Returns `steps` signed gradient steps on pictures as one function, traced anew each time."""
  logits_fn = models.logits_fn(model)

  def body(images: jax.Array, _: None) -> tuple[jax.Array, None]:
    gradient = jax.grad(lambda x: jax.nn.logsumexp(logits_fn(x), axis=-1).sum())(images)
    return jnp.clip(images + 0.01 * jnp.sign(gradient), 0, 1), None

  step = rewrite.fast_on_cpu(body) if rewritten else body
  return lambda images: jax.lax.scan(step, images, length=steps, unroll=unroll)[0]


if __name__ == "__main__":
  main()
