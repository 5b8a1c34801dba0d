# SPDX-License-Identifier: Apache-2.0
import importlib.metadata
import json
import os
import socket
import subprocess

import jax
import pytest

from mixboost_jax.runtime import environment


def git(folder, *arguments):
  identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
  subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
  git(tmp_path, "init", "-q")
  (tmp_path / "package").mkdir()
  (tmp_path / "package" / "__init__.py").write_text("")
  git(tmp_path, "add", ".")
  git(tmp_path, "commit", "-q", "-m", "m")
  return tmp_path


def test_everything_is_json_and_names_nobody():
  tree = environment.describe()
  text = json.dumps(tree)
  assert socket.gethostname() not in text
  assert tree["hardware"]["platform"] == jax.default_backend()
  assert tree["hardware"]["device_count"] == jax.device_count()
  assert tree["hardware"]["cores"] == len(os.sched_getaffinity(0))
  assert tree["hardware"]["memory_gib"] > 0.1
  assert tree["hardware"]["cpu"]


def test_versions():
  found = environment.versions()
  assert {"mixboost_jax", "python", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(found)
  assert found["jax"] == jax.__version__


def test_absent_packages_are_left_out(monkeypatch):
  real = importlib.metadata.version

  def version(name):
    if name.startswith("orbax"):
      raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  assert "orbax-checkpoint" not in environment.versions()


def test_git_state(repository):
  package = repository / "package"
  state = environment.git_state(package)
  assert state is not None
  assert len(state["commit"]) == 40
  assert state["dirty"] is False
  (package / "new.py").write_text("")  # untracked files are not part of the package
  assert environment.git_state(package) == state
  (package / "__init__.py").write_text("x = 1\n")
  assert environment.git_state(package) == state | {"dirty": True}


def test_a_package_that_only_lies_below_a_repository_does_not_count(repository):
  installed = repository / "site-packages"
  installed.mkdir()
  (installed / "__init__.py").write_text("")
  assert environment.git_state(installed) is None


def test_no_git(tmp_path, monkeypatch):
  assert environment.git_state(tmp_path / "missing") is None
  monkeypatch.setenv("PATH", str(tmp_path))
  assert environment.git_state() is None
