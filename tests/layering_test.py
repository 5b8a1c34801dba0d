# SPDX-License-Identifier: Apache-2.0
"""Imports go from a higher layer to a lower one, never sideways; TensorFlow is never imported."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "mixboost_jax"
LAYERS = {
  **dict.fromkeys(("array_types", "checks", "keys", "registry", "schema", "rules", "settings"), 0),
  **dict.fromkeys(("configs", "files", "loops", "rewrite", "target"), 0),
  "image": 1,
  **dict.fromkeys(("augment", "masks", "losses", "corruptions", "metrics"), 2),
  **dict.fromkeys(("models", "attacks", "defenses", "interactions", "analysis", "gan"), 3),
  **dict.fromkeys(("data", "runtime"), 4),
  **dict.fromkeys(("train", "evaluate"), 5),
  "audit": 6,
  "report": 7,
  "jobs": 8,
  "cli": 9,
  "main": 10,
  "__main__": 11,
}
FILES = sorted(PACKAGE.rglob("*.py"))
# Optional at run time: imported inside the function that needs them.
LAZY = {"tensorflow_datasets", "ml_collections", "clu", "grain", "array_record", "orbax", "PIL"}
LAZY |= {"tensorboardX", "matplotlib", "torch", "safetensors", "scipy", "sklearn"}
CORE_TOP = {0, 1, 2, 3}


def box_of(path: pathlib.Path) -> str:
  parts = path.relative_to(PACKAGE).with_suffix("").parts
  return parts[0]


def imported(tree: ast.AST, package: tuple[str, ...]) -> list[tuple[str, bool]]:
  """Returns (dotted module, whether at module level) for both import forms."""
  top = {id(node) for node in getattr(tree, "body", [])}
  found = []
  for node in ast.walk(tree):
    names: list[str] = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        base = ".".join([*package[: len(package) - node.level + 1], base]).strip(".")
      names = [f"{base}.{alias.name}" for alias in node.names]
    found += [(name, id(node) in top) for name in names]
  return found


def violations(path: pathlib.Path, source: str) -> list[str]:
  own = box_of(path)
  problems = []
  package = ("mixboost_jax", *path.relative_to(PACKAGE).parts[:-1])
  for name, top_level in imported(ast.parse(source), package):
    parts = name.split(".")
    if parts[0] == "tensorflow":
      problems.append(f"{path.name}: imports {name}")
    if parts[0] in LAZY and top_level and LAYERS.get(own, 0) in CORE_TOP and own != "__init__":
      problems.append(f"{path.name}: imports {name} at module level; the core must not need it")
    if parts[0] == "mixboost_jax" and len(parts) > 1 and own != "__init__":
      other = parts[1]
      if other in LAYERS and other != own and LAYERS[other] >= LAYERS[own] and LAYERS[own] > 0:
        problems.append(f"{path.name} [{LAYERS[own]}] imports {name} [{LAYERS[other]}]")
      if LAYERS[own] == 0 and other in LAYERS and LAYERS[other] > 0:
        problems.append(f"{path.name} [0] imports {name} [{LAYERS[other]}]")
  return problems


def test_every_layer_is_there():
  assert set(LAYERS) == {box_of(path) for path in FILES} - {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
  assert box_of(path) in LAYERS or box_of(path) == "__init__", f"{path}: name its layer in LAYERS"
  assert violations(path, path.read_text()) == []


@pytest.mark.parametrize(
  "line",
  [
    "import tensorflow as tf",
    "from mixboost_jax.models import wide_resnet",
    "from mixboost_jax import train",
    "import mixboost_jax.masks",
    "from .. import losses",
    "import clu.metrics",
  ],
)
def test_the_check_can_fail(line):
  assert violations(PACKAGE / "augment" / "fake.py", line)
