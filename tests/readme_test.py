# SPDX-License-Identifier: Apache-2.0
"""What README.md shows is what happens. Its numbers: `docs_test.py`."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from benchmarks import versions
from docs import tables
from mixboost_jax import jobs, settings

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in tables.PAGES}
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_first_block_prints_what_it_says(tmp_path):
  code = next(text for kind, text in BLOCKS.findall(README) if kind == "python")
  printed = next(text for kind, text in BLOCKS.findall(README) if kind == "text")
  code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == printed.split()
  assert (tmp_path / "report.html").is_file()
  assert len(code.strip().splitlines()) <= 12  # one of them is ours


def test_it_comes_early():
  line = README[: README.index("```python")].count("\n")
  assert line <= 45
  assert README.count("\n") <= 110  # two screens; everything else is a page of docs/


def commands():
  for text in PAGES.values():
    for kind, block in BLOCKS.findall(text):
      if kind == "bash":
        for line in block.replace("\\\n", " ").splitlines():
          if "--config=" in line:
            yield line.split(" #")[0].strip()


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_name_configs_that_resolve(command, monkeypatch):
  monkeypatch.chdir(ROOT)
  words = shlex.split(command)
  (chosen,) = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
  config = settings.load(chosen)
  for word in words:
    if word.startswith("--config."):
      key, _, value = word.removeprefix("--config.").partition("=")
      number = re.fullmatch(r"[\d.]+", value)
      config.update_from_flattened_dict({key: float(value) if number else value})
  job = next((w.removeprefix("--job=") for w in words if w.startswith("--job=")), "all")
  assert job in jobs.JOBS
  assert settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)


def test_links_lead_somewhere():
  for target in re.findall(r"\]\(([^)#]+)\)", README):
    assert target.startswith("https://") or (ROOT / target).exists(), target


def test_versions_are_those_of_the_committed_log():
  log = json.loads((ROOT / "results/benchmarks/versions.json").read_text())
  page = PAGES["status"]
  assert versions.fill(page, log) == page
  row = "| 3.12.1 | 0.11.2 | 0.11.2 | 0.12.12 | 0.12.8 | 2,790 | 1 | 5 | 2026-11-27 | 0a1b2c3 |"
  made = {"python": "3.12.1", "jax": "0.11.2", "jaxlib": "0.11.2", "flax": "0.12.12"}
  entry = {"passed": 2790, "failed": 1, "skipped": 5, "date": "2026-11-27", "commit": "0a1b2c3"}
  entry["versions"] = made | {"orbax-checkpoint": "0.12.8"}
  assert row in versions.fill(page, {**log, "3.12-gpu": entry})


def test_outcomes_of_a_test_report(tmp_path):
  report = tmp_path / "report.xml"
  report.write_text(
    "<testsuites><testsuite><testcase/><testcase/><testcase><failure/></testcase>"
    "<testcase><error/></testcase><testcase><skipped/></testcase></testsuite></testsuites>"
  )
  assert versions.outcomes(report) == {"passed": 2, "failed": 2, "skipped": 1}


def read(name):
  return json.loads((ROOT / f"results/benchmarks/{name}.json").read_text())


def test_speed_is_that_of_the_committed_benchmarks():
  """Read here by other words than in `docs/tables.py`."""
  facts = read("train_step_cpu")["derived"]
  for name, batch in (("WRN-16-2", 128), ("WRN-40-4", 64)):
    one, two = (f for f in facts if f["model"] == name.lower())
    numbers = one["ours_over_torch"], two["ours_over_torch"], two["two_views_over_one"]
    row = " | ".join(f"{number:.2f}" for number in numbers)
    assert f"| {name}, {batch} | {row} |" in PAGES["speed"]
  evaluation = read("evaluation_cpu2")
  rows = {
    "the same, batched": read("mixup_inference")["speedup_over_batched"],
    "foolbox": evaluation["pgd_20"]["ratio"],
    "Pillow in as many processes": (
      1 / read("input_pipeline_cpu")["ways"]["PIL in processes"]["over_ours"]
    ),
  }
  for peer, ratio in rows.items():
    assert f"| {peer} | {ratio:.2f} |" in PAGES["speed"], peer


@pytest.mark.parametrize("pairs", ["neighbour", "uniform"])
def test_evaluations_saved_are_those_of_the_committed_benchmark(pairs):
  found = read("interaction_cost")[pairs]["mean_square_error_times_cost"]
  low, high = found["interval_95"]
  assert f"| {pairs} | {found['ratio']:.1f} | {low:.0f} to {high:.0f} |" in PAGES["interactions"]
  assert f"{found['ratio']:.1f}" in README


@pytest.mark.parametrize(("rate", "file"), [("0.01", ""), ("0.1", "_rate_0.1")])
def test_learned_baselines_are_those_of_the_committed_benchmark(rate, file):
  found = read(f"learned_baselines{file}")["released"]
  for loss in ("shapley", "marginal"):
    row = " | ".join(f"{percent:.2f}" for percent in found[loss]["percent"])
    assert f"| L_{loss}, ours, rate {rate} | {row} |" in PAGES["results"]
