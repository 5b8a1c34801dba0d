# SPDX-License-Identifier: Apache-2.0
"""Public functions show how they are called, and that call works; jobs call training for you."""

import functools
import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixboost_jax

PACKAGES = [name for name in mixboost_jax.__all__[1:] if name not in ("runtime", "train")]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


def public():
  for package in PACKAGES:
    door = importlib.import_module(f"mixboost_jax.{package}")
    for name in door.__all__:
      found = getattr(door, name)
      if inspect.isroutine(found):
        yield f"{package}.{name}", found


FUNCTIONS = dict(public())


@functools.cache
def space():
  """The names that examples use without saying what they are."""
  key = jax.random.key(0)
  weights = jax.random.normal(jax.random.key(1), (16 * 16 * 3, 4))
  images = jnp.round(jax.random.uniform(jax.random.key(2), (8, 16, 16, 3)) * 255) / 255

  def logits_fn(pictures):
    return pictures.reshape(len(pictures), -1) @ weights

  labels = logits_fn(images).argmax(1)
  doors = {name: importlib.import_module(f"mixboost_jax.{name}") for name in PACKAGES}
  return doors | {
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "key": key,
    "images": images,  # float32[8, 16, 16, 3] in [0, 1]
    "labels": labels,  # of four classes
    "soft_labels": jax.nn.one_hot(labels, 4),
    "logits_fn": logits_fn,  # images -> logits[N, 4]
    "logits": logits_fn(images),
    "game": doors["interactions"].table_game(jax.random.normal(key, (2**5,))),  # five players
  }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_works(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  blocks = BLOCK.findall(inspect.getdoc(FUNCTIONS[name]) or "")
  assert blocks, f"{name}: no example in its docstring"
  names = dict(space())
  for block in blocks:
    assert name.rpartition(".")[2] in block, f"{name}: the example calls something else"
    exec(compile(block, name, "exec"), names)
