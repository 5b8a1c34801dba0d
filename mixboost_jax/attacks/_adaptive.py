# SPDX-License-Identifier: Apache-2.0
"""Attacks that know the randomised defense in front of the model.

Symbols (Pang et al. 2020, arXiv:1909.11515, App. B.2): lambda -> mix_weight, x_s,k -> partners,
N_A -> num_samples, u -> mixed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels
from mixboost_jax.attacks import _balls, _pgd, _predictors
from mixboost_jax.attacks._balls import Epsilon

Partners = Float[Array, "S N H W C"]


@checks.inputs(values="always")
def adaptive_mixup(
  key: AnyKey,
  logits_fn: Callable,
  partners_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  mix_weight: float,
  num_samples: int,
  average: str = "loss",
  fresh: bool = True,
  max_rows: int | None = None,
  loss: str | Callable = "ce",
  **options: Any,
) -> Images:
  """Runs PGD on the mean gradient at mixed points: the adaptive attack of the paper.

  Paper: Pang et al. 2020, arXiv:1909.11515, eq. 24. It writes the gradient of F; the loss whose
  gradient is meant is an option here.

  ```python
  pool = defenses.build_pool(images, labels=jnp.arange(8) % 4, num_classes=4)
  partners_fn = defenses.partner_sampler(pool, labels, mode="ol")
  options = {"mix_weight": 0.6, "num_samples": 2, **attacks.PRESETS["mixup-inference-10"]}
  adversarial = attacks.adaptive_mixup(key, logits_fn, partners_fn, images, labels, **options)
  ```

  Besides the arguments of `pgd`:
    logits_fn: the undefended, deterministic model.
    partners_fn: `keys[N] -> images[N, H, W, C]`, one pool draw per example; build it with
      `defenses.partner_sampler` from the predictions on the clean images, as the paper does.
    mix_weight: weight of the attacked image, in [0, 1].
    num_samples: draws per step.
    average: "loss" (mean cross-entropy of the draws), "probabilities" (loss of their mean) or
      "logits".
    fresh: whether each step has new draws; otherwise the first ones are kept.
    max_rows: rows per call of the network; see `loops.map_rows`.
    loss: as in `pgd`; `average="loss"` is defined for "ce" only.
    **options: further keywords of `pgd`, such as `epsilon`, `step_size` and `num_steps`.
  """
  if average not in ("loss", "probabilities", "logits") or (average == "loss" and loss != "ce"):
    raise ValueError(
      "attacks.adaptive_mixup: average must be 'loss' (with loss='ce'), 'probabilities' or "
      f"'logits', got {average!r} with loss={loss!r}."
    )
  if num_samples < 1:
    raise ValueError(f"attacks.adaptive_mixup: num_samples must be >= 1, got {num_samples}.")
  num = images.shape[0]
  fixed = keys_lib.per_example(key, num)

  def predict(keys: Array, x: Array) -> Array:
    keys = keys if fresh else fixed
    draws = jnp.stack([_predictors.step_keys(keys, s) for s in range(num_samples)])
    partners = jax.vmap(partners_fn)(draws).reshape(-1, *x.shape[1:])

    def row(rows: Array) -> Array:
      mixed = mix_weight * x[rows % num] + (1 - mix_weight) * partners[rows]
      logits = logits_fn(mixed)
      return logits if average == "logits" else jax.nn.log_softmax(logits)

    outputs = loops.map_rows(row, num_samples * num, max_rows=max_rows)
    outputs = outputs.reshape(num_samples, num, -1)
    if average == "probabilities":
      return jax.nn.logsumexp(outputs, axis=0) - jnp.log(num_samples)
    return outputs.mean(axis=0)

  if average == "loss":  # the mean of log-probabilities must not be normalised again
    loss = lambda log_probabilities, y: -_balls.pick(log_probabilities, y)  # noqa: E731
  random = _predictors.Randomized(predict)
  return _pgd.pgd(key, random, images, labels, loss=loss, **options)


@checks.inputs(values="always")
def averaged_perturbation(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  partners: Partners,
  labels: Labels,
  *,
  mix_weight: float,
  epsilon: Epsilon,
  step_size: Epsilon,
  num_steps: int,
  targeted: bool = False,
  clip: bool = True,
) -> Images:
  """Perturbs fixed mixed points and averages the perturbations: the published code's variant.

  It searches the Linf ball around the *mixed* points, and adds what it finds to the image, where
  the defense shrinks it by `mix_weight`. It is weak by construction and kept to show that.

  ```python
  partners = jnp.stack([images[::-1], jnp.roll(images, 1, axis=0)])  # two for each image
  options = {"mix_weight": 0.6, "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 10}
  adversarial = attacks.averaged_perturbation(key, logits_fn, images, partners, labels, **options)
  ```

  Besides the arguments of `pgd`:
    partners: the pool draws of each example, fixed for the whole attack.
    clip: whether the result is clipped to [0, 1]; the published code does not.
  """
  _balls.check_budget(epsilon=epsilon, step_size=step_size)
  samples, num = partners.shape[0], images.shape[0]
  mixed = mix_weight * images[None] + (1 - mix_weight) * partners
  mixed = mixed.reshape(-1, *images.shape[1:])
  objective = _balls.objective("ce", jnp.tile(labels, samples), targeted=targeted)
  each = keys_lib.per_example(key, num)
  keys = jnp.concatenate([_predictors.step_keys(each, s) for s in range(samples)])
  start = _pgd.starting_points(keys, mixed, epsilon=epsilon, norm="linf", clip=True)

  def step(index: Array, points: Array) -> Array:
    del index
    gradient = jax.grad(lambda u: jnp.sum(objective(logits_fn(u))))(points)
    shared = gradient.reshape(samples, *images.shape).mean(axis=0, keepdims=True)
    direction = jnp.broadcast_to(jnp.sign(shared), (samples, *images.shape))
    moved = points + step_size * direction.reshape(points.shape)
    return _balls.project(moved, mixed, epsilon=epsilon, norm="linf")

  points = loops.repeat(step, start, num_steps)
  delta = (points - mixed).reshape(samples, *images.shape).mean(axis=0)
  return jnp.clip(images + delta, 0.0, 1.0) if clip else images + delta


@checks.inputs(values="always")
def end_to_end(
  key: AnyKey,
  probabilities_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  num_samples: int = 1,
  max_rows: int | None = None,
  **options: Any,
) -> Images:
  """Runs PGD through the whole randomised defense, with fresh draws at every step.

  Paper: Tramer et al. 2020, arXiv:2002.08347, Sec. 16 (Mixup Inference): the loss is that of the
  averaged probabilities. `PRESETS["tramer-2020"]` holds their budget.

  ```python
  policy = {"name": "gaussian_noise", "noise_std": 0.1, "num_draws": 5, "has_gradient": True}
  defended = defenses.build(policy, logits_fn)
  adversarial = attacks.end_to_end(key, defended, images, labels, **attacks.PRESETS["tramer-2020"])
  ```

  Besides the arguments of `pgd`:
    probabilities_fn: `(key, images) -> probabilities`, the defended prediction with its own draws
      (build it with `has_gradient=True`, so that it is compiled for differentiation).
    num_samples: defended predictions averaged per step, on top of the defense's own draws.
    max_rows: rows per call if `num_samples` > 1; see `loops.map_rows`.
    **options: keywords of `pgd`: `epsilon`, `step_size`, `num_steps`, `loss` ("ce", "margin",
      "dlr"), `restarts`, `keep`, `momentum`, ...
  """
  predictor = _predictors.from_probabilities(probabilities_fn)
  if num_samples != 1:
    predictor = _predictors.expectation(predictor, num_samples, max_rows=max_rows)
  return _pgd.pgd(key, predictor, images, labels, **options)
