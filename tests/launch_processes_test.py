# SPDX-License-Identifier: Apache-2.0
"""What the files of `launch/` start: two processes of a run, as SLURM and JobSet tell them."""

import os
import pathlib
import random
import subprocess
import sys

import pytest
import yaml
from launch_test import ROOT, executable

from mixboost_jax.runtime import checkpoint

TINY = [
  "--job=train",
  "--config.name=tiny",
  "--config.data.train_examples=32",
  "--config.data.test_examples=16",
  "--config.model.name=tiny-cnn",
  "--config.train.batch_size=16",
  "--config.train.epochs=0.0",
  "--config.train.steps=2",
  "--config.train.evaluate_every_epochs=0.0",
  "--config.train.checkpoint_every_epochs=0.0",
  "--config.runtime.cpu_devices=1",
  "--config.runtime.tensorboard=False",
  "--config.report.num_samples=0",
]
CONFIG = "configs/cifar10.py:smoke"
SRUN = """
shift # --kill-on-bad-exit
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=127.0.0.1,127.0.0.2 SLURM_STEP_NUM_TASKS=2
export SLURM_STEP_NUM_NODES=2 SLURM_NTASKS=2 SLURM_NNODES=2 SLURM_LOCALID=0
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_NODEID=$rank "$@" &
  pids="$pids $!"
done
for pid in $pids; do wait "$pid" || exit $?; done
"""


def clean(**variables):
  kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  kept["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles faster
  return {k: v for k, v in kept.items() if not k.startswith("SLURM")} | variables


def assert_trained_together(folder, output):
  assert "2 steps on 2 device(s)" in output, output
  assert output.count("2 steps on") == 1, "both were first"
  assert len((folder / "metrics.jsonl").read_text().splitlines()) >= 1
  assert len(list(folder.rglob(checkpoint.FILE_NAME))) == 1, "the last step"


def test_a_slurm_step_of_two_nodes_trains_one_network(tmp_path):
  executable(tmp_path / "bin" / "srun", SRUN)
  executable(tmp_path / "bin" / "scontrol", 'echo "$@"')
  executable(tmp_path / "bin" / "python", f'exec "{sys.executable}" "$@"')
  place = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", "launch/slurm.sbatch", CONFIG, f"--workdir={tmp_path / 'run'}", *TINY],
    env=clean(PATH=place, SLURM_JOB_ID=str(random.randrange(4096))),  # the port follows from it
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 0, done.stderr
  assert_trained_together(tmp_path / "run", done.stdout + done.stderr)


def pods(file: pathlib.Path):
  """Returns the pods of a JobSet's first job: their number and their specification."""
  jobset = yaml.safe_load(file.read_text())
  job = jobset["spec"]["replicatedJobs"][0]
  return jobset["metadata"]["name"], job["name"], job["template"]["spec"]


def variables_of(container, index, coordinator):
  """Returns what the kubelet sets, with the address of this host for that of the first pod."""
  found = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "JOB_COMPLETION_INDEX": str(index)}
  for entry in container["env"]:
    field = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
    own = str(index) if field.endswith("job-completion-index']") else entry.get("value")
    found[entry["name"]] = coordinator if entry["name"].endswith("COORDINATOR") else own
  return found


def test_the_pods_of_a_jobset_train_one_network(tmp_path):
  _, _, job = pods(ROOT / "launch" / "gke_jobset.yaml")
  (container,) = job["template"]["spec"]["containers"]
  mine = {"--config": CONFIG, "--workdir": str(tmp_path / "run")}  # what its first line asks for
  words = [word.partition("=")[::2] for word in container["args"]]
  command = [sys.executable, *container["command"][1:], *TINY]
  command += [f"{name}={mine.get(name, value)}" for name, value in words]
  coordinator = f"127.0.0.1:{random.randrange(40000, 60000)}"
  children = [
    subprocess.Popen(
      command,
      env=clean(**variables_of(container, index, coordinator)),
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(job["completions"])
  ]
  try:
    outputs = [child.communicate(timeout=240)[0] for child in children]
  finally:
    for child in children:
      child.kill()
  assert [child.returncode for child in children] == [0, 0], outputs
  assert_trained_together(tmp_path / "run", "".join(outputs))


@pytest.mark.parametrize("name", ["gke_jobset.yaml", "gke_tpu.yaml", "study_job.yaml"])
def test_kubernetes_files_hold_together(name):
  document = yaml.safe_load((ROOT / "launch" / name).read_text())
  job = document["spec"]
  if document["kind"] == "JobSet":
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    (replicated,) = document["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert document["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert job["backoffLimit"] == 0, "a lost pod must end the job, so that all start again"
  else:
    assert (document["apiVersion"], document["kind"]) == ("batch/v1", "Job")
  assert job["completionMode"] == "Indexed", "pods need their index"
  assert job["parallelism"] == job["completions"], "all must run at once"
  pod = job["template"]["spec"]
  assert pod["restartPolicy"] == "Never"
  volumes = {volume["name"] for volume in pod["volumes"]}
  for container in pod["containers"]:
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    (folder,) = [mount["mountPath"] for mount in container["volumeMounts"]]
    places = [word for word in container["args"] if word.startswith(("--workdir", "--results"))]
    assert places
    assert all(word.split("=")[1].startswith(folder) for word in places), "outlives the pod"
    assert container["command"] == ["python", "-m", "mixboost_jax.main"]
    assert all(isinstance(entry.get("value", ""), str) for entry in container.get("env", []))


def test_the_first_pod_of_a_jobset_is_called_as_the_others_call_it():
  name, job_name, job = pods(ROOT / "launch" / "gke_jobset.yaml")
  (container,) = job["template"]["spec"]["containers"]
  values = {entry["name"]: entry.get("value") for entry in container["env"]}
  host, port = values["MIXBOOST_COORDINATOR"].split(":")
  assert host == f"{name}-{job_name}-0-0.{name}"  # JobSet: NAME-JOB-REPLICA-INDEX.NAME
  assert 1024 < int(port) < 32768, "below the ephemeral ports"
  assert values["MIXBOOST_NUM_PROCESSES"] == str(job["completions"])


def test_a_tpu_slice_has_a_pod_for_each_of_its_hosts():
  _, _, job = pods(ROOT / "launch" / "gke_tpu.yaml")
  pod = job["template"]["spec"]
  rows, columns = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
  (container,) = pod["containers"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert job["completions"] * chips == int(rows) * int(columns)
