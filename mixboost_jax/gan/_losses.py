# SPDX-License-Identifier: Apache-2.0
"""What critic and generator minimise: one value per example, from scores, and the penalty.

A score is a real number, higher for pictures that look real; for the non-saturating losses it is
the logit of the probability D that a picture is real.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import PerExample, PRNGKey

_TINY = 1e-12
"""Added to squared norms: the root has no gradient at 0."""


class Loss(NamedTuple):
  """One game: `critic(real, fake)` and `generator(fake)` of scores, one value per example."""

  critic: Callable[[PerExample, PerExample], PerExample]
  generator: Callable[[PerExample], PerExample]
  spectral: bool
  """Whether the critic's kernels are spectrally normalised; otherwise its slope is penalised."""


LOSSES: dict[str, Loss] = {
  "non_saturating": Loss(
    critic=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda fake: jax.nn.softplus(-fake),
    spectral=True,
  ),
  "wgan_gp": Loss(
    critic=lambda real, fake: fake - real, generator=lambda fake: -fake, spectral=False
  ),
}
"""-log D(real) - log(1 - D(fake)) and -log D(fake), whose gradient does not vanish where the critic
is sure (Goodfellow et al. 2014, arXiv:1406.2661); D(fake) - D(real) and -D(fake), to which
`gradient_penalty` belongs (Gulrajani et al. 2017, arXiv:1704.00028)."""


def gradient_penalty(
  key: PRNGKey,
  scores_fn: Callable[[Array], PerExample],
  real: Float[Array, "N H W C"],
  fake: Float[Array, "N H W C"],
) -> PerExample:
  """Returns (||grad D(x)|| - 1)^2 at a random point x between each real picture and a made one.

  Paper: Gulrajani et al. 2017, arXiv:1704.00028; x = u real + (1 - u) fake, u ~ U(0, 1) per
    example. It is weighted by 10 there, on pixels in [-1, 1].

  ```python
  scores_fn = lambda x: x.mean((1, 2, 3)) * x[0].size ** 0.5  # its slope is 1
  penalty = gan.gradient_penalty(key, scores_fn, images, 1 - images)
  assert jnp.allclose(penalty, 0, atol=1e-4)
  ```

  Args:
    key: of the random points.
    scores_fn: the critic, `pictures -> scores`; the score of a picture depends on it alone.
    real: in the units in which the slope is to be 1.
    fake: likewise.
  """
  share = jax.random.uniform(key, (len(real), 1, 1, 1))
  between = share * real + (1 - share) * fake
  slope = jax.grad(lambda x: scores_fn(x).sum())(between)
  norm = jnp.sqrt(jnp.sum(slope**2, axis=(1, 2, 3)) + _TINY)
  return (norm - 1) ** 2
