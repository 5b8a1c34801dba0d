# SPDX-License-Identifier: Apache-2.0
"""`--job=study`: workers share a folder, are killed, stopped and resumed; nothing is done twice."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mixboost_jax import jobs, settings
from mixboost_jax.configs import base
from mixboost_jax.jobs import study
from mixboost_jax.runtime import interrupt, results, workdir

pytestmark = pytest.mark.usefixtures("unchecked")

ROOT = pathlib.Path(__file__).parents[1]
ORDER = ("seed2", "seed0", "hot", "seed1")
FILE = """
import json
from ml_collections import ConfigDict
from mixboost_jax.configs import base


def get_config(arg=""):
  config = base.override(base.get_config(), json.loads('''{tiny}'''))
  runs = {{f"seed{{seed}}": {{"seed": seed}} for seed in range(3)}}
  runs["hot"] = {{"model": {{"dropout": 0.1}}}}
  config.runs = ConfigDict(runs)
  config.study = ConfigDict({{"order": {order}, "jobs": ("evaluate",)}})
  return config
"""
TINY = {
  "name": "tiny",
  "data.train_examples": 96,
  "data.test_examples": 32,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 12,
  "train.checkpoint_every_epochs": 1.0,
  "evaluate.batch_size": 32,
  "runtime.tensorboard": False,
  "report.num_samples": 1,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("study") / "tiny.py"
  path.write_text(FILE.format(tiny=json.dumps(TINY), order=ORDER))
  return path


@pytest.fixture(autouse=True, scope="module")
def kept_programs():
  """Runs of one process share what is compiled; the workers of `start` forget, as users' do."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(study, "_forget", lambda: None)
    yield


def run(file, folder, *, minutes=0.0, only=ORDER, **overrides):
  config = base.override(settings.load(str(file)), overrides)
  config.study.order = only
  kept = str(folder / "kept")
  return jobs.run(config, folder=folder, job="study", command="test", minutes=minutes, results=kept)


def kept(folder):
  return {path.stem: results.read(path) for path in sorted((folder / "kept").glob("*.json"))}


def numbers(folder):
  """All that was measured, without times."""
  return {
    name: (found.config_hash, found.metrics, found.curves) for name, found in kept(folder).items()
  }


@pytest.fixture(scope="module")
def alone(file, tmp_path_factory):
  folder = tmp_path_factory.mktemp("alone")
  assert run(file, folder) == 0
  return folder


@pytest.fixture
def copied(alone, tmp_path):
  shutil.copytree(alone, tmp_path / "copy")
  return tmp_path / "copy"


def test_runs_are_done_in_order_and_reported(alone):
  made = sorted(ORDER, key=lambda name: (alone / name / "results.json").stat().st_mtime_ns)
  assert made == list(ORDER)
  assert sorted(kept(alone)) == sorted(ORDER)
  assert kept(alone)["seed2"].settings["seed"] == 2
  assert "2 seeds" not in (alone / "report.md").read_text()
  assert "3 seeds" in (alone / "report.md").read_text()


def start(file, folder, log):
  command = [sys.executable, "-m", "mixboost_jax.main", "--job=study", f"--config={file}"]
  return subprocess.Popen(
    [*command, f"--workdir={folder}", f"--results={folder / 'kept'}"],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    stdout=subprocess.DEVNULL,
    stderr=log,
  )


def test_killed_workers_do_every_unit_once_and_as_one_worker_would(file, alone, tmp_path):
  chance, kills = random.Random(7), 0
  folder = tmp_path / "shared"
  with open(tmp_path / "log", "ab") as log:
    workers = [start(file, folder, log) for _ in range(2)]
    deadline = time.monotonic() + 240
    while kills < 2 and time.monotonic() < deadline:
      locks = list(folder.glob("*/.lock"))
      if all(worker.poll() == 0 for worker in workers):
        break
      if not locks:
        time.sleep(0.02)
        continue
      time.sleep(chance.uniform(0, 1))
      i = chance.randrange(2)
      if workers[i].poll() is None:
        workers[i].kill()
        workers[i].wait()
        kills += 1
        workers[i] = start(file, folder, log)
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0], log.name
  text = (tmp_path / "log").read_text(errors="replace")
  assert kills == 2, text
  assert run(file, folder) == 0  # a worker may have left a run to one that was killed later
  assert numbers(folder) == numbers(alone)
  wrote = re.findall(r"wrote \S*/shared/(\w+)/results\.json", text)
  assert len(wrote) == len(set(wrote)), text
  assert len(wrote) >= len(ORDER) - kills, text


def test_what_is_kept_is_done_even_without_run_folders(file, copied, capfd):
  for name in ORDER:
    shutil.rmtree(copied / name)
  assert run(file, copied) == 0
  assert not [name for name in ORDER if (copied / name).exists()]
  path = copied / "kept" / "seed1.json"
  path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 7'))
  assert run(file, copied) == 0
  assert [name for name in ORDER if (copied / name).exists()] == ["seed1"]
  assert "kept/seed1.json: schema version 7" in capfd.readouterr().err


def test_what_an_older_version_kept_under_another_hash_counts(file, copied, capfd):
  """Settings decide, not their hash: a new option of a later version changes it."""
  paths = [*(copied / "kept").glob("*.json"), *copied.glob("*/results.json")]
  assert len(paths) == 2 * len(ORDER)
  for path in paths:
    text = re.sub('"config_hash": "[0-9a-f]+"', f'"config_hash": "{"0" * 12}"', path.read_text())
    path.write_text(text)
    assert results.read(path).config_hash == "0" * 12
  assert run(file, copied) == 0
  errors = capfd.readouterr().err
  assert "study: 4 of 4 runs are done" in errors
  assert "wrote" not in errors
  assert {found.config_hash for found in kept(copied).values()} == {"0" * 12}


def test_a_damaged_unit_is_measured_again(file, copied, alone, capfd):
  before = {name: (copied / name / "results.json").stat().st_mtime_ns for name in ORDER}
  for path in (copied / "kept" / "seed0.json", copied / "seed0" / "results.json"):
    path.write_bytes(path.read_bytes()[:-99])
  assert run(file, copied) == 0
  assert capfd.readouterr().err.count("not a JSON file") == 1
  after = {name: (copied / name / "results.json").stat().st_mtime_ns for name in ORDER}
  assert [name for name in ORDER if before[name] != after[name]] == ["seed0"]
  assert numbers(copied) == numbers(alone)


def test_only_what_other_settings_change_is_done_again(file, copied, capfd):
  assert run(file, copied, **{"evaluate.batch_size": 16}) == 0
  assert "wrote" not in capfd.readouterr().err
  two = {"only": ("seed0", "hot")}
  assert run(file, copied, **two, **{"evaluate.confidence": 0.9}) == 0
  errors = capfd.readouterr().err
  assert errors.count("already trained") == errors.count("/results.json\n") == 2
  assert "made with evaluate.confidence=0.95, now 0.9; measured again" in errors


def forget(folder, *names):
  for name in names:
    shutil.rmtree(folder / name)
    (folder / "kept" / f"{name}.json").unlink()


def test_the_end_of_the_time_saves_and_the_next_call_goes_on(
  file, copied, alone, capfd, monkeypatch
):
  handler = signal.getsignal(signal.SIGALRM)
  forget(copied, "seed0")
  real = study.training.run

  def late(*arguments):
    signal.raise_signal(signal.SIGALRM)
    return real(*arguments)

  monkeypatch.setattr(study.training, "run", late)
  assert run(file, copied, minutes=60.0) == interrupt.EXIT_PREEMPTED
  monkeypatch.undo()
  errors = capfd.readouterr().err
  assert "the time is over: saving and leaving" in errors
  assert "study: 1 of 4 runs are done; the same command goes on" in errors
  assert [p.name for p in (copied / "seed0" / "checkpoints").glob("0*")] == ["00000001"]
  assert signal.getsignal(signal.SIGALRM) is handler
  assert run(file, copied) == 0
  assert "resuming from step 1 of 12" in capfd.readouterr().err
  assert numbers(copied) == numbers(alone)


def test_a_run_in_other_hands_is_passed_by(file, copied, capfd):
  forget(copied, "seed0", "seed1")
  (one,) = [r for r in settings.resolve_runs(settings.load(str(file))) if r.name == "tiny_seed0"]
  with workdir.open_run(copied / "seed0", one):
    assert run(file, copied) == 0
  assert "3 of 4 runs are done, 1 are in other hands (seed0)" in capfd.readouterr().err
  assert "seed1" in kept(copied)
  assert "seed0" not in kept(copied)


def test_a_failed_run_does_not_stop_the_others(file, copied, capfd):
  config = settings.load(str(file))
  config.runs.hot.optimizer = {"learning_rate": 1e30}
  forget(copied, "hot", "seed1")
  chosen = {"command": "test", "results": str(copied / "kept")}
  assert jobs.run(config, folder=copied, job="study", **chosen) == study.EXIT_RUNS_FAILED
  errors = capfd.readouterr().err
  assert re.search(r"warning: hot failed, the next run goes on: step \d+: metric", errors)
  assert "3 of 4 runs are done, 1 failed (hot)" in errors
  assert (copied / "seed1" / "results.json").exists()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"order": ("seed0", "cold")}, "config.study.order: unknown name 'cold'; choose one of"),
    ({"order": (*ORDER, "hot")}, "config.study.order: expected each run once; hot is repeated"),
    ({"jobs": ("evaluate", "evalute")}, "config.study.jobs: unknown name 'evalute'; choose one of"),
  ],
)
def test_a_wrong_study_is_one_error(file, tmp_path, changes, message):
  config = settings.load(str(file))
  config.study.update(changes)
  with pytest.raises(ValueError, match=message):
    jobs.run(config, folder=tmp_path / "run", job="study", command="test")
  assert not (tmp_path / "run").exists()


STUDIES = sorted(path.stem for path in (ROOT / "configs" / "studies").glob("[!_]*.py"))


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("words", ["", ":smoke"])
def test_studies_are_sound(name, words):
  config = settings.load(f"configs/studies/{name}.py{words}")
  runs = settings.resolve_runs(config, checks=jobs.CHECKS, read_when=jobs.READ_WHEN)
  plan = study.plan(
    config.to_dict(), dict(zip(config.runs, runs, strict=True)), folder=ROOT, kept_in=""
  )
  assert len({settings.config_hash(one) for one in runs}) == len(runs)
  for row, one in plan.runs.items():
    assert one.name == f"{name}_{row}"
    assert one.seed == int(row[-1])
    assert ("boost" in row) == (one.objective.name == "mixboost")
    assert one.data.name == ("shapes" if words or name == "encoding" else "cifar10")
    if name == "boost":
      assert (one.evaluate.split, one.train.select_on) == ("validation", "none")


def test_the_first_rows_have_three_seeds_before_the_others_have_one():
  order = settings.load("configs/studies/table1.py").study.order
  first = [
    f"{row}_seed{s}" for s in range(3) for row in ("baseline", "boost", "pixmix", "pixmix_boost")
  ]
  assert list(order[:12]) == first
  assert order[12:14] == ("augmix_jsd_seed0", "augmix_jsd_boost_seed0")


def test_words_set_the_grid_and_the_seeds_of_augmentation_p():
  config = settings.load("configs/studies/augmentation_p.py:grid10+seeds2+quarter")
  order = config.study.order
  assert len(order) == 2 * (1 + 10 * 2)
  assert order[:3] == ("none_seed0", "classical_p100_seed0", "mixup_p100_seed0")
  runs = dict(zip(config.runs, settings.resolve_runs(config), strict=True))
  half = runs["classical_p50_seed1"]
  assert {one["p"] for one in half.augment.policy["steps"]} == {0.5}
  assert (half.augment.flip, half.augment.crop_padding) == (False, 0)
  assert runs["mixup_p10_seed0"].augment.policy["per"] == "batch"
  assert half.model.name == "speedrun-0.25"


def test_orders_measures_the_networks_of_table1():
  table, orders = (settings.load(f"configs/studies/{name}.py") for name in ("table1", "orders"))
  hashes = [
    [settings.config_hash(one) for one in settings.resolve_runs(config)]
    for config in (table, orders)
  ]
  assert hashes[0] == hashes[1]
  assert table.study.order == orders.study.order


def test_several_jobs_of_a_run_become_one_file(tmp_path):
  config = settings.load("configs/studies/orders.py:smoke")
  config.runs = {"pixmix_boost_seed0": config.runs.pixmix_boost_seed0.to_dict()}
  config.study.update({"order": ("pixmix_boost_seed0",), "jobs": ("interactions", "evaluate")})
  chosen = {"job": "study", "command": "test", "results": str(tmp_path / "kept")}
  assert jobs.run(config, folder=tmp_path, **chosen) == 0
  found = kept(tmp_path)["pixmix_boost_seed0"]
  assert found.name == "orders_pixmix_boost_seed0"
  assert set(found.seconds) == {"train", "interactions", "evaluate"}
  assert {"interaction_proxy", "error"} <= {metric.name for metric in found.metrics}
  config.interactions.num_images = 3
  before = (tmp_path / "pixmix_boost_seed0" / "results.json").stat().st_mtime_ns
  assert jobs.run(config, folder=tmp_path, **chosen) == 0
  assert (tmp_path / "pixmix_boost_seed0" / "results.json").stat().st_mtime_ns == before
  assert kept(tmp_path)["pixmix_boost_seed0"].settings["interactions"]["num_images"] == 3
