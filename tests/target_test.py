# SPDX-License-Identifier: Apache-2.0
"""The platform that is compiled for decides the formulation; a CPU host lowers for all of them."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import pytest
import tiny_trainer as tiny

from mixboost_jax import loops, target
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.train import forward
from mixboost_jax.train import step as steps

PACKAGE = pathlib.Path(target.__file__).parent
ACCELERATORS = ("tpu", "cuda")  # as `lowering_platforms` spells them


def names_of(platform):
  return "gpu" if platform == "cuda" else platform


def asks(path):
  return any(
    getattr(node, "attr", getattr(node, "id", "")) == "default_backend"
    for node in ast.walk(ast.parse(path.read_text()))
  )


def test_nobody_else_asks_for_the_default_backend():
  assert [path for path in PACKAGE.rglob("*.py") if asks(path)] == [PACKAGE / "target.py"]


def test_the_mesh_decides_and_the_host_only_without_one():
  mesh = meshes.create(devices=jax.devices()[:1])
  assert target.platform() == jax.default_backend() == "cpu"
  with target.compiling_for("tpu"):
    assert target.platform() == "tpu"
    with target.compiling_for(mesh):
      assert target.is_cpu()
    assert not target.is_cpu()
  assert target.traced_for("gpu", target.platform)() == "gpu"


def test_a_program_traced_for_one_platform_is_not_taken_for_another():
  @jax.jit
  def number(x):
    return x + (1.0 if target.is_cpu() else 2.0)

  assert number(0.0) == 1
  with target.compiling_for("gpu"):
    assert number(0.0) == 2
  assert number(0.0) == 1


def texts(function, *arguments):
  """Returns the program as lowered for the CPU and for each accelerator, all on this host."""
  found = {}
  for platform in ("cpu", *ACCELERATORS):
    with target.compiling_for(names_of(platform)):
      traced = jax.jit(lambda *a: function(*a)).trace(*arguments)
      found[platform] = traced.lower(lowering_platforms=(platform,)).as_text()
  return found


def test_loops_are_rewritten_for_the_cpu_alone():
  def body(carry, _):
    kernel = jnp.ones((4, 3, 3, 3))  # output channels first, which XLA:CPU is slow at
    numbers = ("NHWC", "OHWI", "NHWC")
    out = jax.lax.conv_general_dilated(carry, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return out[..., :3], None

  found = texts(lambda x: loops.scan(body, x, length=3)[0], jnp.ones((2, 8, 8, 3)))
  assert "x[o, 0, 1, i]->" not in found["cpu"]
  for platform in ACCELERATORS:
    assert "x[o, 0, 1, i]->" in found[platform]


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_defaults_follow_the_target(platform):
  on_cpu = platform == "cpu"
  with target.compiling_for(platform):
    assert forward.is_fused("auto", "clean") is not on_cpu
    rows = []
    loops.map_rows(lambda r: rows.append(len(r)) or r, 5000, has_gradient=False)
  assert max(rows) <= (128 if on_cpu else 4096)
  assert max(rows) > (0 if on_cpu else 1024)


def test_a_training_step_is_traced_as_its_target_likes_it():
  """A policy goes example by example on a CPU, a loop over branches, and all at once elsewhere."""
  policy = {"name": "randaugment", "num_ops": 1, "magnitude": 5}
  trainer = tiny.build(1, **{"augment.policy": policy})
  order = trainer.order(trainer.root, trainer.state.step)
  branches = {}
  for platform in ("cpu", "gpu", "tpu"):
    step = target.traced_for(platform, functools.partial(steps.train_step, parts=trainer.parts))
    traced = jax.jit(step).trace(trainer.state, trainer.split, order, trainer.root)
    branches[platform] = str(traced.jaxpr).count("cond[")
  assert branches["cpu"] > branches["gpu"] == branches["tpu"] == 0


def test_on_paper_a_run_is_made_of_shapes():
  with target.on_paper():
    trainer = tiny.build()
  leaves = jax.tree.leaves((trainer.state, trainer.split, trainer.root))
  assert {type(leaf) for leaf in leaves} == {jax.ShapeDtypeStruct}
  real = tiny.build()
  assert jax.tree.map(jnp.shape, real.state) == jax.tree.map(jnp.shape, trainer.state)
