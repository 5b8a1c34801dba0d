# SPDX-License-Identifier: Apache-2.0
"""Pictures that say more than a number: the surest mistakes, and what an attack changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import target
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import _sanity
from mixboost_jax.evaluate._examples import from_dataset, padded_batches
from mixboost_jax.evaluate._kind import Curves
from mixboost_jax.evaluate._session import Session, open_network
from mixboost_jax.runtime import mesh as mesh_lib

SEARCHED = 512
"""Examples among which mistakes and right predictions are looked for."""
EPSILON = 8 / 255
AMPLIFIED = 0.5 / EPSILON
"""A change by `EPSILON` becomes white or black on mid-grey."""


def gallery(
  logits_fn: LogitsFn,
  dataset: Any,
  *,
  split: str = "test",
  num: int = 8,
  batch_size: int = 500,
  mesh: Mesh | None = None,
  attacked: bool = False,
) -> tuple[dict[str, np.ndarray], Curves]:
  """Picks pictures to show; what `evaluate` has compiled for the same arguments serves again.

  ```python
  pictures, curves = evaluate.gallery(logits_fn, (images, labels), attacked=True)
  assert pictures["adversarial"].shape == (8, 3 * 16, 16, 3)
  ```

  Args:
    logits_fn: as of `evaluate`.
    dataset: as of `evaluate`.
    split: part of a `Dataset`.
    num: most pictures of a kind.
    batch_size: as of `evaluate`.
    mesh: devices to use; all if None.
    attacked: whether to attack right predictions by PGD of 10 steps within 8/255.

  Returns:
    Pictures by kind, float32[at most num, ., W, C] in [0, 1]: "mistakes", those of the highest
    confidence, and "adversarial", above each other the picture, the attacked one, and their
    difference, amplified around mid-grey. A kind without any is left out. Then a curve for each
    sort of mistake, named `mistakes/TRUE CLASS taken for CLASS`: place among the pictures and
    confidence.
  """
  mesh = mesh_lib.create() if mesh is None else mesh
  examples = from_dataset(dataset, split=split)
  rounded = -(-min(batch_size, len(examples)) // mesh.size) * mesh.size
  opened = open_network(logits_fn, (rounded, *examples.images.shape[1:]), mesh)
  session = Session(opened.scorer, opened.placed, examples, {}, programs=opened.programs)
  part = session.part(0, min(SEARCHED, len(examples)))
  rows = session.scorer.rounded(min(_sanity.NUM_EXAMPLES, len(part)))
  found = []
  for batch in padded_batches(part, rows):
    logits = session.scorer.logits(session.variables, session.scorer.place(batch.images))
    probabilities = np.asarray(jax.nn.softmax(logits))
    found.append((batch.images[batch.real], probabilities[batch.real]))
  images, probabilities = (np.concatenate(values) for values in zip(*found, strict=True))
  predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
  right = predicted == part.labels
  wrong = np.flatnonzero(~right)
  wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:num]
  names = examples.class_names or tuple(map(str, range(probabilities.shape[1])))
  curves: Curves = {}
  for step, i in enumerate(wrong):
    words = f"{names[part.labels[i]]} taken for {names[predicted[i]]}"
    point = {"step": step, "confidence": float(sure[i])}
    curves.setdefault(f"mistakes/{words}", []).append(point)
  pictures = {"mistakes": images[wrong]}
  if attacked:
    chosen = part.take(np.flatnonzero(right)[: _sanity.NUM_EXAMPLES])
    if len(chosen):
      change = target.traced_for(mesh, _sanity.attacked_by_pgd)
      clean, attack = change(session, chosen, epsilon=EPSILON)
      pictures["adversarial"] = beside(clean[:num], attack[:num])
  return {kind: some for kind, some in pictures.items() if len(some)}, curves


def beside(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
  """Puts pictures, attacked ones and the amplified difference above each other: [N, 3 H, W, C]."""
  difference = jnp.clip(0.5 + AMPLIFIED * (attacked - clean), 0, 1)
  return np.concatenate([clean, attacked, np.asarray(difference)], axis=1)
