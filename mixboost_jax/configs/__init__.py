# SPDX-License-Identifier: Apache-2.0
"""The shipped experiments: `from mixboost_jax.configs import base`.

In a checkout they lie in the top-level `configs/`; a wheel holds them in the place of this file.
"""

import pathlib

__path__ = [str(pathlib.Path(__file__).parents[2] / "configs")]
