# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules and update rules, per step."""

import jax
import jax.numpy as jnp
import optax

from mixboost_jax.schema import Optimizer


def schedule(optimizer: Optimizer, num_steps: int) -> optax.Schedule:
  """Returns the learning rate of step t = 0 .. num_steps - 1.

  cosine: `final + (peak - final) / 2 * (1 + cos(pi t / num_steps))`; step: multiplied by
  `step_factor` at each milestone (a fraction of the run); a linear warm-up comes first if asked.
  """
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
  if warmup >= num_steps:
    raise ValueError(f"config.optimizer.warmup_steps={warmup}: the run has only {num_steps} steps.")
  length = num_steps - warmup
  if optimizer.schedule == "cosine":
    after = _cosine(peak, optimizer.final_learning_rate, length)
  elif optimizer.schedule == "step":
    after = optax.piecewise_constant_schedule(
      peak, {int(part * length): optimizer.step_factor for part in optimizer.milestones}
    )
  else:
    after = optax.constant_schedule(peak)
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _cosine(peak: float, final: float, length: int) -> optax.Schedule:
  def rate(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    decay = 0.5 * (1 + jnp.cos(jnp.pi * jnp.asarray(step, jnp.float32) / length))
    return final + (peak - final) * decay

  return rate


def build(optimizer: Optimizer, num_steps: int) -> optax.GradientTransformation:
  """Returns the update rule.

  SGD has torch semantics: weight decay is added to the gradient before momentum, on all network
  parameters (a learned mask fill, which is a picture, is not decayed).
  """
  rate = schedule(optimizer, num_steps)
  clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
  if optimizer.name == "adamw":
    rule = optax.adamw(rate, weight_decay=optimizer.weight_decay, mask=_network_only)
    return optax.chain(*clip, rule)
  decay = optax.add_decayed_weights(optimizer.weight_decay, mask=_network_only)
  momentum = optimizer.momentum or None
  return optax.chain(*clip, decay, optax.sgd(rate, momentum=momentum, nesterov=optimizer.nesterov))


def _network_only(params: dict) -> dict:
  return {
    name: jax.tree.map(lambda _, n=name: n == "network", tree) for name, tree in params.items()
  }
