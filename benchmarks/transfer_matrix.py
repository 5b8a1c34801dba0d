# SPDX-License-Identifier: Apache-2.0
"""Which share of attacked pictures fools other networks: source x target, for each attack.

usage: PYTHONPATH=. python benchmarks/transfer_matrix.py RUN_FOLDER RUN_FOLDER ... [--data_dir DIR]
         [--attacks mi vr sgm sgm-ir hybrid-ir] [--images 100] [--steps 100]

Paper: Wang et al. 2021, arXiv:2010.04055: epsilon 16/255, steps of 2/255, pictures that every
network gets right; of each picture that step counts which is best for the other pictures (leave one
out), so no number of steps is chosen on the pictures that are reported. Beside the success stands
the mean interaction between the cells of the last perturbation, on the source. An attack that asks
for residual branches is left out for sources without. Finished (source, attack) pairs are kept in
PARTS, and the same command goes on; OUT is written and a table printed at the end.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import trained_run

from mixboost_jax import attacks, files, interactions, jobs, metrics, rewrite
from mixboost_jax.jobs.interactions import in_turn
from mixboost_jax.runtime import environment
from mixboost_jax.runtime.workdir import Parts

DEFAULT = ("mi", "vr", "di", "sgm", "ir", "sgm-ir", "hybrid-ir")


def pictures(networks: Sequence[jobs.Trained], num: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns pictures of the test split that every network gets right, of all classes in turn."""
  split = networks[0].dataset.test.part(0, 2000)
  right = np.ones(len(split), bool)
  for network in networks:
    predict = jax.jit(lambda x, f=network.logits_fn: f(x).argmax(1))
    for start in range(0, len(split), 250):
      part = slice(start, start + 250)
      found = predict(split.images[part].astype(np.float32) / 255)
      right[part] &= np.asarray(found) == split.labels[part]
  rows = np.flatnonzero(right)
  rows = rows[in_turn(split.labels[rows], num)]
  return split.images[rows].astype(np.float32) / 255, np.asarray(split.labels[rows])


def measure(
  source: jobs.Trained,
  targets: Sequence[jobs.Trained],
  images: np.ndarray,
  labels: np.ndarray,
  attack: str,
  args: argparse.Namespace,
) -> dict[str, Any]:
  """Returns which picture fools which target after which step, and the interaction at the end."""
  options = {"epsilon": args.epsilon / 255, "step_size": args.step_size / 255}
  options |= {"num_steps": args.steps, "every": 1, **attacks.TRANSFER_PRESETS[attack]}
  if "interaction_weight" in options:
    options |= {"interaction_draws": args.draws, "interaction_weight": args.weight}
  key = jax.random.split(jax.random.key(0), len(images))

  @jax.jit
  def craft(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return attacks.transfer(key, source.logits_fn, x, y, **options)

  checks = [jax.jit(lambda x, y, f=one.logits_fn: attacks.fooled(f(x), y)) for one in targets]
  fooled: list[list[np.ndarray]] = [[] for _ in targets]
  inside = []
  for start in range(0, len(images), args.batch):
    rows = slice(start, start + args.batch)
    path = craft(key[rows], images[rows], labels[rows])
    for found, check in zip(fooled, checks, strict=True):
      found.append(np.stack([check(step, jnp.asarray(labels[rows])) for step in path]))
    delta = path[-1] - images[rows]
    for x, d, y in zip(jnp.asarray(images[rows]), delta, labels[rows], strict=True):
      game = interactions.perturbation_game(source.logits_fn, x, d, int(y), grid=16)
      inside.append(float(interactions.mean_interaction(game)))
  whole = [np.concatenate(found, axis=1).astype(int).tolist() for found in fooled]
  return {"fooled": whole, "interaction": inside}


def cell(fooled: np.ndarray) -> dict[str, Any]:
  """Returns the leave-one-out success with its interval, and the step that is best overall."""
  hits = np.asarray(attacks.leave_one_out(jnp.asarray(fooled)))
  low, high = metrics.wilson(int(hits.sum()), len(hits))
  best = int(fooled.mean(1).argmax()) + 1
  return {"success": float(hits.mean()), "low": low, "high": high, "best_step": best}


def table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
  """Returns the success in % as a Markdown table."""
  lines = [
    f"| source | attack | mean I_ab | {' | '.join(names)} |",
    "| --- " * (3 + len(names)) + "|",
  ]
  for row in rows:
    cells = (row["targets"].get(name) for name in names)
    shown = (
      f"{100 * c['success']:.1f} [{100 * c['low']:.0f}, {100 * c['high']:.0f}]" if c else "-"
      for c in cells
    )
    mean, error = row["interaction"]
    lines.append(
      f"| {row['source']} | {row['attack']} | {mean:.2g} ± {error:.1g} | {' | '.join(shown)} |"
    )
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("runs", type=pathlib.Path, nargs="+")
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--attacks", nargs="*", default=DEFAULT, choices=attacks.TRANSFER_PRESETS)
  parser.add_argument("--images", type=int, default=100)
  parser.add_argument("--steps", type=int, default=100)
  parser.add_argument("--epsilon", type=float, default=16.0, help="of 255")
  parser.add_argument("--step_size", type=float, default=2.0, help="of 255")
  parser.add_argument("--draws", type=int, default=32, help="of cells, per step of IR")
  parser.add_argument("--weight", type=float, default=1.0, help="of the interaction in IR")
  parser.add_argument("--batch", type=int, default=50)
  parser.add_argument("--parts", type=pathlib.Path, default=pathlib.Path("transfer_parts.json"))
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("results/benchmarks/transfer_matrix.json")
  )
  args = parser.parse_args()
  networks = {run.name: trained_run.load(run, data_dir=args.data_dir) for run in args.runs}
  if len(networks) < 2 or len(networks) != len(args.runs):
    parser.error(f"expected at least two run folders of different names, got {list(networks)}")
  images, labels = pictures(list(networks.values()), args.images)
  if len(images) < 2:
    parser.error(f"every network is right on {len(images)} of 2,000 pictures; train them longer")
  print(f"{len(images)} pictures that all networks get right", flush=True)
  setting = [args.steps, args.epsilon, args.step_size, args.draws, args.weight, len(images)]
  steps = {run.name: networks[run.name].step for run in args.runs}
  parts, rows = Parts(args.parts, identity=[setting, steps]), []
  for name, source in networks.items():
    has_branches = rewrite.has_residuals(source.logits_fn, images[:1])
    targets = {other: one for other, one in networks.items() if other != name}
    for attack in args.attacks:
      if "residual_decay" in attacks.TRANSFER_PRESETS[attack] and not has_branches:
        continue
      job = (source, list(targets.values()), images, labels, attack, args)
      found = parts.get(f"{name} {attack}", lambda job=job: measure(*job))
      inside = np.asarray(found["interaction"])
      fooled = (np.asarray(one, bool) for one in found["fooled"])
      rows.append(
        {
          "source": name,
          "attack": attack,
          "interaction": [float(inside.mean()), float(inside.std() / len(inside) ** 0.5)],
          "targets": {target: cell(one) for target, one in zip(targets, fooled, strict=True)},
        }
      )
      print(table(rows[-1:], list(networks)).splitlines()[-1], flush=True)
  report = {
    "command": trained_run.command(),
    "pictures": len(images),
    "success": "share that fools the target at the step best for the other pictures; Wilson 95 %",
    "networks": {name: one.settings.model.name for name, one in networks.items()},
    "rows": rows,
    "environment": environment.describe(),
  }
  files.make_folder(args.out.parent)
  files.write_json(args.out, report)
  print(table(rows, list(networks)))


if __name__ == "__main__":
  main()
