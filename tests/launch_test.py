# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml

from mixboost_jax.runtime import interrupt

ROOT = pathlib.Path(__file__).parents[1]


def executable(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"#!/bin/sh\n{text}\n")
  path.chmod(0o755)


def run(tmp_path, script, *arguments, **variables):
  return subprocess.run(
    ["bash", ROOT / "launch" / script, *arguments],
    env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **variables},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_words_reach_the_workers_of_a_slice_as_they_were_typed(tmp_path):
  executable(tmp_path / "bin" / "gcloud", 'for last; do :; done; sh -c "${last#--command=}"')
  executable(tmp_path / "mixboost_jax" / ".venv" / "bin" / "python", 'printf "%s\\n" "$@"')
  words = ["--workdir=my run; touch owned", "--config.data.note=$(touch owned) 'x'", "--epoch=*"]
  done = run(tmp_path, "tpu_vm.sh", "configs/cifar10.py:boost", *words, TPU="t", ZONE="z")
  assert done.stdout.splitlines()[-3:] == words, done.stderr
  assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize(
  ("code", "restarts", "again"), [(0, "0", False), (2, "0", False), (75, "99", True),
                                  (137, "0", True), (137, "10", False)]
)  # fmt: skip
def test_slurm_runs_again_what_may_go_on(tmp_path, code, restarts, again):
  executable(tmp_path / "bin" / "srun", f"exit {code}")
  executable(tmp_path / "bin" / "scontrol", 'echo "$@"')
  variables = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
  done = run(tmp_path, "slurm.sbatch", "configs/cifar10.py", **variables)
  assert done.returncode == code
  assert done.stdout == ("requeue 7\n" if again else "")


def test_slurm_passes_a_study_on(tmp_path):
  executable(tmp_path / "bin" / "srun", 'shift 4; printf "%s\\n" "$@"')
  words = ["--job=study", "--workdir=my runs"]
  done = run(tmp_path, "slurm.sbatch", "configs/studies/table1.py", *words, SLURM_JOB_ID="7")
  assert done.stdout.splitlines() == ["--config=configs/studies/table1.py", *words]


def test_the_pods_of_a_study_start_a_command_that_exists(tmp_path):
  job = yaml.safe_load((ROOT / "launch" / "study_job.yaml").read_text())["spec"]
  assert job["completionMode"] == "Indexed"
  ignored = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "Ignore"]
  assert ignored[0]["onExitCodes"]["values"] == [interrupt.EXIT_PREEMPTED]
  (container,) = job["template"]["spec"]["containers"]
  command = [*container["command"], *container["args"]]
  assert command[:3] == ["python", "-m", "mixboost_jax.main"]
  done = subprocess.run(
    [sys.executable, *command[1:], f"--workdir={tmp_path}", "--config.study.jobs=('x',)"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert "error: config.study.jobs: unknown name 'x'" in done.stderr


def test_the_exit_code_of_local_processes_is_the_highest(tmp_path):
  executable(tmp_path / "bin" / "python", 'exit "$((MIXBOOST_PROCESS_ID * 70))"')
  assert run(tmp_path, "local_processes.sh", "2", "configs/demo.py").returncode == 70


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_launch_scripts_are_sound():
  scripts = [*ROOT.glob("launch/*.sh"), ROOT / "launch" / "slurm.sbatch"]
  done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stdout


def test_a_sweep_without_the_package_says_so(tmp_path):
  executable(tmp_path / "bin" / "python", "exit 1")
  done = run(tmp_path, "sweep_seeds.sh", "mine.py", "2", VIRTUAL_ENV="on")
  assert done.returncode == 2
  assert "python does not find mixboost_jax; activate its environment first" in done.stderr


def test_seeds_are_swept_from_any_folder(tmp_path):
  executable(tmp_path / "bin" / "python", 'echo "$PWD $@"')
  done = run(
    tmp_path, "sweep_seeds.sh", "mine.py:boost", "2", "--config.train.epochs=1", VIRTUAL_ENV="on"
  )
  *seeds, report = done.stdout.splitlines()
  assert seeds == [
    f"{tmp_path} -m mixboost_jax.main --config=mine.py:boost --config.seed={seed} "
    f"--workdir=runs/mine_boost/seed{seed} --config.train.epochs=1"
    for seed in (0, 1)
  ]
  assert report.endswith("--out=runs/mine_boost/report.html"), done.stderr
