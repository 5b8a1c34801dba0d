# SPDX-License-Identifier: Apache-2.0
"""House rules of every public function of layers 1 to 3: order of arguments, names, docstrings."""

import importlib
import inspect
import pkgutil

import pytest

import mixboost_jax

BOXES = ("image", "augment", "masks", "losses", "corruptions", "metrics")
BOXES += ("attacks", "defenses", "interactions", "analysis", "models", "gan")
POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def public_functions():
  for module_info in pkgutil.walk_packages(mixboost_jax.__path__, "mixboost_jax."):
    if module_info.name.split(".")[1] not in BOXES:
      continue
    module = importlib.import_module(module_info.name)
    for name, function in vars(module).items():
      own = getattr(function, "__module__", None) == module.__name__
      if own and inspect.isfunction(function) and not name.startswith("_"):
        yield f"{module.__name__}.{name}", function


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_house_rules(name):
  function = FUNCTIONS[name]
  parameters = inspect.signature(function).parameters
  assert inspect.getdoc(function), f"{name}: no docstring"
  names = list(parameters)
  assert not {"rng", "seed", "prng", "random_key"} & set(names), f"{name}: randomness is called key"
  if "key" in names and parameters["key"].kind is POSITIONAL:
    assert names[0] == "key", f"{name}: key comes first"
  for parameter in parameters.values():
    if parameter.kind is POSITIONAL and parameter.default is not inspect.Parameter.empty:
      pytest.fail(f"{name}: option {parameter.name} must be keyword-only")


@pytest.mark.parametrize("name", ["augment.ops", "jobs", *mixboost_jax.__all__[1:]])
def test_a_door_shows_its_public_names_only(name):
  module = importlib.import_module(f"mixboost_jax.{name}")
  assert dir(module) == sorted(module.__all__)
  assert [key for key in module.__all__ if not hasattr(module, key)] == []
