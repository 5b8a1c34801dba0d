# SPDX-License-Identifier: Apache-2.0
"""A small smooth network to audit."""

import jax.numpy as jnp
import numpy as np

from mixboost_jax import audit, defenses

PLAN = audit.Plan(
  epsilon=0.1, step_size=0.03, num_steps=5, eot_step_size=0.03, eot_steps=5, samples=3, redraws=2
)
MI_OL = {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.6, "num_draws": 3}
POLICIES = {"none": {"name": "none"}, "mi-ol": MI_OL}


def make():
  rng = np.random.default_rng(3)
  first = jnp.asarray(rng.normal(size=(32, 16)) * 0.7, jnp.float32)
  second = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)

  def logits_fn(x):
    return jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ first) @ second

  pool_images = rng.uniform(size=(80, 4, 4, 2)).astype(np.float32)
  pool_labels = np.asarray(logits_fn(pool_images).argmax(-1))
  images = rng.uniform(size=(10, 4, 4, 2)).astype(np.float32)
  pool = defenses.build_pool(pool_images, pool_labels, num_classes=4)
  return logits_fn, pool, images, np.asarray(logits_fn(images).argmax(-1))
