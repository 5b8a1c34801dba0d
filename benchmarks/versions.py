# SPDX-License-Identifier: Apache-2.0
"""Writes down how the tests went with the versions at hand; docs/status.md has a table of them all.

usage: PYTHONPATH=. python benchmarks/versions.py SET COMMIT JUNIT_XML  (see `launch/versions.sh`)
"""

import argparse
import datetime
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from mixboost_jax import files
from mixboost_jax.runtime import environment

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOG, PAGE = ROOT / "results/benchmarks/versions.json", ROOT / "docs/status.md"
COLUMNS = ("python", "jax", "jaxlib", "flax", "orbax-checkpoint")
OUTCOMES = ("passed", "failed", "skipped")
MARKED = re.compile(r"(<!-- versions -->\n).*?(<!-- /versions -->)", re.DOTALL)


def outcomes(report: pathlib.Path) -> dict[str, int]:
  """Counts the test cases of a JUnit file."""
  counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
  for case in ElementTree.parse(report).iter("testcase"):
    kinds = {child.tag for child in case}
    outcome = "failed" if kinds & {"failure", "error"} else "passed"
    counts["skipped" if "skipped" in kinds else outcome] += 1
  return counts


def table(log: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the table, a row per set of versions."""
  rows = [[*COLUMNS, *OUTCOMES, "date", "commit"]]
  rows.append(["---"] * len(rows[0]))
  for entry in log.values():
    versions = [entry["versions"][name] for name in COLUMNS]
    counts = [f"{entry[outcome]:,}" for outcome in OUTCOMES]
    rows.append([*versions, *counts, entry["date"], entry["commit"]])
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def fill(page: str, log: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns `page` with the table between its `versions` markers."""
  return MARKED.sub(lambda match: match[1] + table(log) + match[2], page)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("set")
  parser.add_argument("commit")
  parser.add_argument("report", type=pathlib.Path)
  args = parser.parse_args()
  log = json.loads(LOG.read_text()) if LOG.exists() else {}
  log[args.set] = {
    **outcomes(args.report),
    "date": datetime.date.today().isoformat(),
    "commit": args.commit,
    "versions": environment.versions(),
  }
  log = dict(sorted(log.items()))
  files.write_json(LOG, log)
  files.write_text(PAGE, fill(PAGE.read_text(encoding="utf-8"), log))


if __name__ == "__main__":
  main()
