# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes files of `launch/` hold together. Nothing is started."""

import pathlib

import pytest
import yaml
from launch_test import ROOT


def pods(file: pathlib.Path):
  """Returns the pods of a JobSet's first job: their number and their specification."""
  jobset = yaml.safe_load(file.read_text())
  job = jobset["spec"]["replicatedJobs"][0]
  return jobset["metadata"]["name"], job["name"], job["template"]["spec"]


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
