# SPDX-License-Identifier: Apache-2.0
"""`python -m mixboost_jax` is the `mixboost` command."""

from mixboost_jax import main

main.run()
