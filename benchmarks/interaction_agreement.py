# SPDX-License-Identifier: Apache-2.0
"""Exact and sampled indices of this package against shapiq on the same games.

usage: PYTHONPATH=. python benchmarks/interaction_agreement.py     (needs `pip install shapiq`)

Random games with interactions of every order; the largest differences go to
results/benchmarks/interaction_agreement.json.
"""

import argparse
import importlib.metadata
import itertools
import pathlib
import shlex
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import shapiq

from mixboost_jax import files, interactions
from mixboost_jax.interactions import _exact
from mixboost_jax.runtime import environment


def game_table(seed: int, num_players: int) -> np.ndarray:
  """A smooth part (low orders) and noise on every coalition (all orders); nothing at the empty."""
  rng = np.random.default_rng(seed)
  presence = _exact.members(num_players)
  table = 3 * np.tanh(presence @ rng.normal(size=(num_players, 3))).sum(1)
  table += rng.normal(size=2**num_players)
  return np.asarray(table - table[0], np.float32)


def compare(seed: int, num_players: int) -> dict[str, float]:
  table = game_table(seed, num_players)
  game, codes = interactions.table_game(jnp.asarray(table)), 1 << np.arange(num_players)
  oracle = shapiq.ExactComputer(
    game=lambda c: table[np.asarray(c).astype(int) @ codes].astype(np.float64),
    n_players=num_players,
  )
  values = oracle("SV", order=1).dict_values
  index = oracle("SII", order=2).dict_values
  dividends = oracle("Moebius", order=num_players).dict_values
  pairs = list(itertools.combinations(range(num_players), 2))
  theirs = np.array([values[(i,)] for i in range(num_players)])
  own_pairs = _exact.shapley_interaction(game)
  own_dividends = _exact.harsanyi(game)
  sampled = interactions.shapley(jax.random.key(seed), game, num_orders=2000)
  gap = np.abs(np.asarray(sampled.mean) - theirs) / np.asarray(sampled.stderr)
  return {
    "shapley_values": float(np.abs(_exact.shapley(game) - theirs).max()),
    "shapley_interaction_index": max(abs(float(own_pairs[p]) - float(index[p])) for p in pairs),
    "harsanyi_dividends": max(
      abs(float(own_dividends[sum(1 << p for p in coalition)]) - float(value))
      for coalition, value in dividends.items()
    ),
    "sampled_shapley_in_standard_errors": float(gap.max()),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--games", type=int, default=5)
  parser.add_argument("--players", type=int, nargs="+", default=(5, 8, 10))
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("results/benchmarks/interaction_agreement.json"),
  )
  args = parser.parse_args()
  rows: list[dict[str, Any]] = []
  for players in args.players:
    found = [compare(seed, players) for seed in range(args.games)]
    rows.append({"players": players, **{k: max(one[k] for one in found) for k in found[0]}})
    print(rows[-1], flush=True)
  files.make_folder(args.out.parent)
  report = {
    "command": shlex.join(["python", *sys.argv]),
    "shapiq": importlib.metadata.version("shapiq"),
    "games_per_size": args.games,
    "largest_absolute_difference": rows,
    "environment": environment.describe(),
  }
  files.write_json(args.out, report)


if __name__ == "__main__":
  main()
