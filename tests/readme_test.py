# SPDX-License-Identifier: Apache-2.0
"""What README.md shows is what happens."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from benchmarks import versions
from mixboost_jax import jobs, settings
from mixboost_jax.report import groups, readme

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_the_first_block_prints_what_it_says():
  code = next(text for kind, text in BLOCKS if kind == "python")
  printed = next(text for kind, text in BLOCKS if kind == "text")
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == printed.split()
  assert len(code.strip().splitlines()) <= 10


def test_it_comes_early():
  line = README[: README.index("```python")].count("\n")
  assert line <= 45


def commands():
  for kind, text in BLOCKS:
    if kind == "bash":
      for line in text.strip().splitlines():
        yield line.split("#")[0].strip()


@pytest.mark.parametrize("command", [c for c in commands() if "mixboost_jax.main" in c])
def test_commands_name_configs_that_resolve(command):
  words = shlex.split(command)
  (chosen,) = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
  path, _, variant = chosen.partition(":")
  assert (ROOT / path).is_file()
  config = settings.load(str(ROOT / path) + (f":{variant}" if variant else ""))
  for word in words:
    if word.startswith("--config."):
      key, _, value = word.removeprefix("--config.").partition("=")
      config.update_from_flattened_dict({key: float(value)})
  assert settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)


def test_links_lead_somewhere():
  for target in re.findall(r"\]\(([^)#]+)\)", README):
    assert (ROOT / target).exists(), target


def test_tables_are_those_of_the_committed_results():
  runs = groups.load(sorted((ROOT / "results").glob("*.json")))
  assert readme.fill(README, runs) == README, (
    "run: python -m mixboost_jax.report --update-readme=README.md results/*.json"
  )


def test_versions_are_those_of_the_committed_log():
  log = json.loads((ROOT / "results/benchmarks/versions.json").read_text())
  assert versions.fill(README, log) == README
  row = "| 3.12.1 | 0.11.2 | 0.11.2 | 0.12.12 | 0.12.8 | 2,790 | 1 | 5 | 2026-11-27 | 0a1b2c3 |"
  made = {"python": "3.12.1", "jax": "0.11.2", "jaxlib": "0.11.2", "flax": "0.12.12"}
  entry = {"passed": 2790, "failed": 1, "skipped": 5, "date": "2026-11-27", "commit": "0a1b2c3"}
  entry["versions"] = made | {"orbax-checkpoint": "0.12.8"}
  assert row in versions.fill(README, {**log, "3.12-gpu": entry})


def test_outcomes_of_a_test_report(tmp_path):
  report = tmp_path / "report.xml"
  report.write_text(
    "<testsuites><testsuite><testcase/><testcase/><testcase><failure/></testcase>"
    "<testcase><error/></testcase><testcase><skipped/></testcase></testsuite></testsuites>"
  )
  assert versions.outcomes(report) == {"passed": 2, "failed": 2, "skipped": 1}


def test_speed_ratios_are_those_of_the_committed_benchmark():
  facts = json.loads((ROOT / "results/benchmarks/train_step_cpu.json").read_text())["derived"]
  for name, batch in (("WRN-16-2", 128), ("WRN-40-4", 64)):
    one, two = (f for f in facts if f["model"] == name.lower())
    numbers = one["ours_over_torch"], two["ours_over_torch"], two["two_views_over_one"]
    row = " | ".join(f"{number:.2f}" for number in numbers)
    assert f"| {name}, {batch} | {row} |" in README


@pytest.mark.parametrize("pairs", ["neighbour", "uniform"])
def test_evaluations_saved_are_those_of_the_committed_benchmark(pairs):
  place = ROOT / "results/benchmarks/interaction_cost.json"
  found = json.loads(place.read_text())[pairs]["mean_square_error_times_cost"]
  low, high = found["interval_95"]
  interval = f"(95 % interval {low:.0f} to {high:.0f})"
  words = f"{found['ratio']:.1f} times fewer on {pairs} pairs {interval}"
  assert words in " ".join(README.split())


@pytest.mark.parametrize(("rate", "file"), [("0.01", ""), ("0.1", "_rate_0.1")])
def test_learned_baselines_are_those_of_the_committed_benchmark(rate, file):
  place = ROOT / f"results/benchmarks/learned_baselines{file}.json"
  found = json.loads(place.read_text())["released"]
  for loss in ("shapley", "marginal"):
    row = " | ".join(f"{percent:.2f}" for percent in found[loss]["percent"])
    assert f"| L_{loss}, ours, rate {rate} | {row} |" in README


def test_ratios_against_peers_are_those_of_the_committed_benchmarks():
  def read(name):
    return json.loads((ROOT / f"results/benchmarks/{name}.json").read_text())

  evaluation, mixup = read("evaluation_cpu2"), read("mixup_inference")
  corruptions = evaluation["corruptions"]
  rows = {
    "PyTorch, channels-last": read("interaction_rate")["ratio"]["channels_last"],
    "the public per-image loop in PyTorch": mixup["speedup_over_loop"],
    "the same, batched": mixup["speedup_over_batched"],
    "the slowest corruption by itself": min(r["ratio"] for r in corruptions["by_name"].values()),
    "foolbox": evaluation["pgd_20"]["ratio"],
    "foolbox; ours with plain `jax.lax` convolutions": (
      evaluation["pgd_20_plain_convolutions"]["ratio"]
    ),
    "the original package": evaluation["autoattack"]["ratio"],
    "Pillow in as many processes": (
      1 / read("input_pipeline_cpu")["ways"]["PIL in processes"]["over_ours"]
    ),
  }
  for peer, ratio in rows.items():
    assert f"| {peer} | {ratio:.2f} |" in README, peer
  assert f"| the authors' scripts | {corruptions['ratio_of_sums']:.1f} |" in README
