# SPDX-License-Identifier: Apache-2.0
"""One update: some critic steps, each on pictures of its own, and one generator step.

Everything random follows from the key, so an update is a pure function of state, pictures and key.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mixboost_jax import loops
from mixboost_jax.array_types import Images, Labels, PRNGKey, Scalar
from mixboost_jax.gan import _losses, _networks
from mixboost_jax.gan._networks import Params, Shape

Metrics = dict[str, Scalar]


class Rules(NamedTuple):
  """What an update is made of."""

  shape: Shape
  loss: _losses.Loss
  penalty: float
  generator: optax.GradientTransformation
  critic: optax.GradientTransformation
  ema_decay: float
  shard: Callable[[Any], Any] = lambda tree: tree
  """Splits the leading axis of every leaf over the devices."""


@flax.struct.dataclass
class GanState:
  """The state of a run after `step` updates.

  Attributes:
    step: int32 scalar.
    generator: parameters.
    critic: parameters.
    averaged: exponential moving average of `generator`; {} if it is off.
    vectors: of the spectral normalisation; {} without it.
    generator_opt: of its optimizer.
    critic_opt: of its optimizer.
  """

  step: Any  # the leaves are shardings or shapes in some trees of this type
  generator: Any
  critic: Any
  averaged: Any
  vectors: Any
  generator_opt: Any
  critic_opt: Any

  def sampled_params(self) -> Any:
    """Returns the parameters that pictures are drawn with."""
    return self.averaged if jax.tree.leaves(self.averaged) else self.generator


def create(key: PRNGKey, rules: Rules) -> GanState:
  """Returns the state before the first update.

  ```python
  import optax
  shape, step = gan.Shape(num_classes=4, image_size=16, width=4, latent=8), optax.adam(2e-4)
  rules = gan.Rules(shape, gan.LOSSES["non_saturating"], 10.0, step, step, ema_decay=0.99)
  state = gan.create(key, rules)
  ```
  """
  key_generator, key_critic, key_vectors = jax.random.split(key, 3)
  generator = _networks.init_generator(key_generator, rules.shape)
  critic = _networks.init_critic(key_critic, rules.shape)
  return GanState(
    step=jnp.zeros((), jnp.int32),
    generator=generator,
    critic=critic,
    averaged=jax.tree.map(jnp.copy, generator) if rules.ema_decay else {},
    vectors=_networks.start_vectors(key_vectors, critic) if rules.loss.spectral else {},
    generator_opt=rules.generator.init(generator),
    critic_opt=rules.critic.init(critic),
  )


def update(
  key: PRNGKey,
  state: GanState,
  images: Float[Array, "S N H W C"],
  labels: Int[Array, "S N"],
  *,
  rules: Rules,
) -> tuple[GanState, Metrics]:
  """Does S critic steps on N pictures each, and one generator step on N draws.

  ```python
  import optax
  shape, step = gan.Shape(num_classes=4, image_size=16, width=4, latent=8), optax.adam(2e-4)
  rules = gan.Rules(shape, gan.LOSSES["non_saturating"], 10.0, step, step, ema_decay=0.99)
  state, update = gan.create(key, rules), jax.jit(gan.update, static_argnames="rules")
  state, means = update(key, state, images[None], labels[None], rules=rules)
  ```

  Args:
    key: of this update.
    state: before it.
    images: in [0, 1].
    labels: of the pictures; the critic sees made ones of the same classes.
    rules: see `Rules`.

  Returns:
    The state after it, and means over its last pictures: `loss` of the generator, `critic_loss`,
    `real_score`, `fake_score`, and `penalty` if there is one.
  """
  critic_key, generator_key = jax.random.split(key)
  each = jax.random.split(critic_key, len(images))
  step = functools.partial(_critic_step, rules=rules, generator=state.generator)
  carry = (state.critic, state.vectors, state.critic_opt)
  (critic, vectors, critic_opt), every = loops.scan(step, carry, (each, images, labels))
  metrics = {name: values[-1] for name, values in every.items()}
  shown = _networks.spectrally_normalised(critic, vectors) if rules.loss.spectral else critic
  generator, generator_opt, metrics["loss"] = _generator_step(
    generator_key, state, shown, labels[-1], rules
  )
  averaged = state.averaged
  if rules.ema_decay:
    averaged = jax.tree.map(
      lambda a, p: rules.ema_decay * a + (1 - rules.ema_decay) * p, averaged, generator
    )
  after = GanState(state.step + 1, generator, critic, averaged, vectors, generator_opt, critic_opt)
  return after, metrics


def _critic_step(
  carry: tuple[Params, Params, Any],
  inputs: tuple[PRNGKey, Images, Labels],
  *,
  rules: Rules,
  generator: Params,
) -> tuple[tuple[Params, Params, Any], Metrics]:
  critic, vectors, opt_state = carry
  key, *batch = inputs
  real, labels = rules.shard(tuple(batch))
  key_fake, key_penalty = jax.random.split(key)
  fake, _ = _made(key_fake, generator, labels)
  if rules.loss.spectral:
    vectors = _networks.power_iteration(critic, vectors)

  def mean_loss(critic: Params) -> tuple[Scalar, Metrics]:
    shown = _networks.spectrally_normalised(critic, vectors) if rules.loss.spectral else critic
    # Neighbouring rows, so a batch that is split over devices stays where it is.
    both = jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
    scores = _networks.criticise(shown, both, jnp.repeat(labels, 2))
    of_real, of_fake = scores[0::2], scores[1::2]
    loss = rules.loss.critic(of_real, of_fake).mean()
    metrics = {"critic_loss": loss, "real_score": of_real.mean(), "fake_score": of_fake.mean()}
    if not rules.loss.spectral:
      # The published weight belongs to pixels in [-1, 1].
      penalty = _losses.gradient_penalty(
        key_penalty,
        lambda signed: _networks.criticise(shown, (signed + 1) / 2, labels),
        2 * real - 1,
        2 * fake - 1,
      ).mean()
      loss, metrics["penalty"] = loss + rules.penalty * penalty, penalty
    return loss, metrics

  (_, metrics), grads = jax.value_and_grad(mean_loss, has_aux=True)(critic)
  updates, opt_state = rules.critic.update(grads, opt_state, critic)
  changed: Any = optax.apply_updates(critic, updates)
  return (changed, vectors, opt_state), metrics


def _generator_step(
  key: PRNGKey, state: GanState, critic: Params, labels: Labels, rules: Rules
) -> tuple[Params, Any, Scalar]:
  """Returns the generator after one step against a critic, its optimizer's state, and the loss."""
  labels = rules.shard(labels)

  def mean_loss(generator: Params) -> Scalar:
    fake, _ = _made(key, generator, labels)
    return rules.loss.generator(_networks.criticise(critic, fake, labels)).mean()

  loss, grads = jax.value_and_grad(mean_loss)(state.generator)
  updates, opt_state = rules.generator.update(grads, state.generator_opt, state.generator)
  changed: Any = optax.apply_updates(state.generator, updates)
  return changed, opt_state, loss


def _made(key: PRNGKey, generator: Params, labels: Labels) -> tuple[Images, Any]:
  latents = jax.random.normal(key, (len(labels), len(generator["dense"]["kernel"])))
  return _networks.generate(generator, latents, labels)
