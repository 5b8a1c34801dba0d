# SPDX-License-Identifier: Apache-2.0
"""The shipped experiments: `from mixboost_jax.configs import base`.

In a checkout they lie in the top-level `configs/`, in a wheel beside this file.
"""

import pathlib

_HERE = pathlib.Path(__file__).parent
__path__ = [str(p) for p in (_HERE, _HERE.parents[1] / "configs") if (p / "base.py").is_file()]
