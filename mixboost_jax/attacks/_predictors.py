# SPDX-License-Identifier: Apache-2.0
"""What an attack sees of a model: deterministic, random, averaged, or with a replaced gradient.

A deterministic predictor is `logits_fn(images)`. A random one (a randomised defense, dropout) is
`logits_fn(key, images)`; attacks hand it one key per example and a fresh set at every step.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels, Logits, PRNGKeys

KeyedLogitsFn = Callable[[Array, Array], Array]
"""`(keys[N], images[N, H, W, C]) -> logits[N, K]`."""

SMALLEST_PROBABILITY = 1e-30
"""Floor under the logarithm of a probability; float32 keeps it apart from 0."""


@dataclasses.dataclass(frozen=True)
class Randomized:
  """Marks a random predictor.

  Attributes:
    function: `(key, images) -> logits`.
    shares_key: whether `function` takes a single key for the whole batch, as most code written
      outside this package does. Otherwise it gets one key per example.
  """

  function: Callable
  shares_key: bool = False

  def __call__(self, key: AnyKey, images: Images) -> Logits:
    """Draws one prediction."""
    return self.function(keys_lib.for_batch(key) if self.shares_key else key, images)


@checks.inputs()
def is_random(logits_fn: Callable) -> bool:
  """Returns whether a predictor asks for a key: `Randomized`, or two required arguments.

  ```python
  assert attacks.is_random(lambda key, images: logits_fn(images))
  assert not attacks.is_random(logits_fn)
  ```
  """
  if isinstance(logits_fn, Randomized):
    return True
  try:
    parameters = inspect.signature(logits_fn).parameters.values()
  except (TypeError, ValueError):  # built-in callables have no signature
    return False
  positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  required = [p for p in parameters if p.kind in positional and p.default is p.empty]
  return len(required) == 2


@checks.inputs()
def keyed(logits_fn: Callable) -> KeyedLogitsFn:
  """Returns `(keys, images) -> logits` for either kind of predictor.

  ```python
  predict = attacks.keyed(logits_fn)
  assert jnp.allclose(predict(jax.random.split(key, len(images)), images), logits)
  ```
  """
  if is_random(logits_fn):
    return logits_fn
  return lambda keys, images: logits_fn(images)


@checks.inputs()
def from_probabilities(probabilities_fn: Callable) -> Callable:
  """Turns a predictor of probabilities into one of logits: their logarithm.

  The cross-entropy of the result is `-log p_y`, so a defense that averages softmax outputs is
  attacked through its own average, not through a second softmax.

  ```python
  log_fn = attacks.from_probabilities(lambda x: jax.nn.softmax(logits_fn(x)))
  assert jnp.allclose(jax.nn.softmax(log_fn(images)), jax.nn.softmax(logits), atol=1e-5)
  ```
  """

  def log(probabilities: Array) -> Array:
    return jnp.log(jnp.maximum(probabilities, SMALLEST_PROBABILITY))

  if is_random(probabilities_fn):
    return Randomized(lambda key, images: log(probabilities_fn(key, images)))
  return lambda images: log(probabilities_fn(images))


@checks.inputs()
def expectation(
  logits_fn: Callable,
  num_samples: int,
  *,
  average: Literal["probabilities", "logits"] = "probabilities",
  max_rows: int | None = None,
) -> Randomized:
  """Averages a random predictor over fresh draws (expectation over transformation).

  Paper: Athalye et al. 2018, arXiv:1707.07397 (EOT).

  ```python
  noisy_fn = lambda key, x: logits_fn(x + 0.1 * jax.random.normal(key, x.shape))
  averaged_fn = attacks.expectation(attacks.Randomized(noisy_fn, shares_key=True), 10)
  adversarial = attacks.fgsm(key, averaged_fn, images, labels, epsilon=8 / 255)
  ```

  Args:
    logits_fn: `(key, images) -> logits`.
    num_samples: draws per prediction, >= 1.
    average: "probabilities" (the log of the mean softmax output) or "logits" (their mean).
    max_rows: rows per call of the network; see `loops.map_rows`.

  Returns:
    A random predictor whose draws of one example depend on the example's key alone.
  """
  if num_samples < 1:
    raise ValueError(f"attacks.expectation: num_samples must be >= 1, got {num_samples}.")
  predict = keyed(logits_fn)

  def averaged(key: AnyKey, images: Images) -> Logits:
    num = images.shape[0]
    each = keys_lib.per_example(key, num)

    def draw(rows: Array) -> Array:
      example = rows % num
      draws = jax.vmap(jax.random.fold_in)(each[example], rows // num)
      logits = predict(draws, images[example])
      return jax.nn.log_softmax(logits) if average == "probabilities" else logits

    outputs = loops.map_rows(draw, num_samples * num, max_rows=max_rows)
    outputs = outputs.reshape(num_samples, num, -1)
    if average == "logits":
      return outputs.mean(axis=0)
    return jax.nn.logsumexp(outputs, axis=0) - jnp.log(num_samples)

  return Randomized(averaged)


@checks.inputs()
def bpda(function: Callable, *, surrogate: Callable = lambda images: images) -> Callable:
  """Keeps the output of `function` and takes the gradient of `surrogate`.

  Paper: Athalye et al. 2018, arXiv:1802.00420, Sec. 4.1 (backward pass differentiable
  approximation); the default surrogate, the identity, is the straight-through estimator. Where the
  rounding is hidden inside a function, `straight_through` finds it.

  ```python
  quantize = attacks.bpda(lambda x: jnp.round(x * 7) / 7)
  adversarial = attacks.fgsm(key, lambda x: logits_fn(quantize(x)), images, labels, epsilon=8 / 255)
  ```
  """

  @jax.custom_vjp
  def wrapped(images: Array) -> Array:
    return function(images)

  def forward(images: Array) -> tuple[Array, Array]:
    return function(images), images

  def backward(images: Array, cotangent: Array) -> tuple[Array]:
    return jax.vjp(surrogate, images)[1](cotangent)

  wrapped.defvjp(forward, backward)
  return wrapped


def step_keys(keys: PRNGKeys, step: int | Array) -> PRNGKeys:
  """Returns the keys of one step, one per example."""
  return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)


@checks.inputs()
def predicted_labels(logits_fn: Callable, images: Images) -> Labels:
  """Returns the classes a deterministic predictor gives; an attack on them leaks no label.

  ```python
  labels = attacks.predicted_labels(logits_fn, images)
  adversarial = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255)
  ```
  """
  return jnp.argmax(logits_fn(images), axis=-1)


@checks.inputs()
def random_targets(key: AnyKey, labels: Labels, *, num_classes: int) -> Labels:
  """Draws, for each example, a class other than its label, uniformly.

  ```python
  targets = attacks.random_targets(key, labels, num_classes=4)
  adversarial = attacks.fgsm(key, logits_fn, images, targets, epsilon=8 / 255, targeted=True)
  ```
  """
  if num_classes < 2:
    raise ValueError(f"attacks.random_targets: needs >= 2 classes, got {num_classes}.")
  checks.class_numbers("random_targets", "labels", labels, num_classes)
  keys = keys_lib.per_example(key, labels.shape[0])
  offsets = jax.vmap(lambda k: jax.random.randint(k, (), 1, num_classes))(keys)
  return (labels + offsets) % num_classes
