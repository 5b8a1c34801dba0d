# SPDX-License-Identifier: Apache-2.0
"""From results files to one HTML page, Markdown, and the tables of a README."""

from mixboost_jax.report.content import Content, gather
from mixboost_jax.report.page import robustness_table, show, write
from mixboost_jax.report.readme import update as update_readme

__all__ = ["Content", "gather", "robustness_table", "show", "update_readme", "write"]


def __dir__() -> list[str]:
  return __all__
