# SPDX-License-Identifier: Apache-2.0
"""A network that says "bright" or "dark": which pictures are shown, and what an attack must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import evaluate
from mixboost_jax.runtime import mesh as mesh_lib

LEVELS = np.linspace(0.2, 0.8, 40, dtype=np.float32)
WRONG = (3, 21, 30)
"""Pictures with the label of the other class; 3 is the darkest, 21 nearly grey."""


def logits_fn(images):
  bright = images.mean(axis=(1, 2, 3))
  return 20 * jnp.stack([0.5 - bright, bright - 0.5], axis=1)


@pytest.fixture(scope="module")
def mesh():
  return mesh_lib.create(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def shown(mesh):
  labels = (LEVELS > 0.5).astype(np.int32)
  labels[list(WRONG)] = 1 - labels[list(WRONG)]
  images = np.broadcast_to(LEVELS[:, None, None, None], (40, 4, 4, 3))
  options = {"num": 8, "batch_size": 40, "mesh": mesh, "attacked": True}
  return evaluate.gallery(logits_fn, (images, labels), **options)


def test_the_surest_mistakes_come_first(shown):
  pictures, curves = shown
  order = sorted(WRONG, key=lambda i: -abs(LEVELS[i] - 0.5))
  np.testing.assert_allclose(pictures["mistakes"][:, 0, 0, 0], LEVELS[order], rtol=1e-6)
  places = {name: [point["step"] for point in points] for name, points in curves.items()}
  assert places == {"mistakes/1 taken for 0": [0], "mistakes/0 taken for 1": [1, 2]}
  sure = [point["confidence"] for points in curves.values() for point in points]
  want = [1 / (1 + np.exp(-40 * abs(LEVELS[i] - 0.5))) for i in order]
  np.testing.assert_allclose(sure, want, rtol=1e-4)


def test_the_attack_and_its_difference_stand_below_the_picture(shown):
  pictures, _ = shown
  clean, attacked, difference = np.split(pictures["adversarial"], 3, axis=1)
  assert len(clean) == 8
  towards = np.where(clean > 0.5, -1, 1)  # a bright picture is made darker, as far as it may be
  np.testing.assert_allclose(attacked, clean + towards * 8 / 255, atol=1e-5)
  np.testing.assert_allclose(difference, 0.5 + 0.5 * towards, atol=1e-3)


def test_without_mistakes_and_attacks_there_is_nothing_to_show(mesh):
  images = np.broadcast_to(LEVELS[:8, None, None, None], (8, 4, 4, 3))
  found = evaluate.gallery(logits_fn, (images, np.zeros(8, np.int32)), batch_size=8, mesh=mesh)
  assert found == ({}, {})
