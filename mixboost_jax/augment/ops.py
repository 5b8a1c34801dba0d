# SPDX-License-Identifier: Apache-2.0
"""The deterministic operations behind the policies, for one picture in [0, 1] each.

Hands on the Pillow-exact kernels of `image.pil`; lift them to batches with `jax.vmap`.
"""

from mixboost_jax.image.pil import *  # noqa: F403
from mixboost_jax.image.pil import __all__


def __dir__() -> list[str]:
  return __all__
