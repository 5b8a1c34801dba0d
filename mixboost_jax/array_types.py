# SPDX-License-Identifier: Apache-2.0
"""Names of the array shapes that the whole package speaks in.

The shapes are checked at run time under pytest only (`tests/conftest.py` switches jaxtyping on);
in production the annotations cost nothing.
"""

from collections.abc import Callable

from jaxtyping import Array, Float, Int, Key

Scalar = Float[Array, ""]
Image = Float[Array, "H W C"]
"""One image, float32 in [0, 1]."""
Images = Float[Array, "N H W C"]
"""A batch of images, float32 in [0, 1]."""
Labels = Int[Array, " N"]
SoftLabels = Float[Array, "N K"]
"""Rows are probability vectors."""
Logits = Float[Array, "N K"]
Probabilities = Float[Array, "N K"]
PerExample = Float[Array, " N"]
ExampleIds = Int[Array, " N"]
PRNGKey = Key[Array, ""]
PRNGKeys = Key[Array, " N"]
"""One typed key per example."""
AnyKey = Key[Array, "*n"]
"""One key, or one key per example."""

LogitsFn = Callable[[Array], Array]
"""`images[N, H, W, C] -> logits[N, K]` in evaluation mode: all that layers 2-3 see of a model."""
