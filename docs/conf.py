# SPDX-License-Identifier: Apache-2.0
"""Sphinx settings.

python -m sphinx -W -b html docs docs/_build/html
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import mixboost_jax
from docs import api, figures, tables

project = "mixboost_jax"
author = copyright = "The mixboost_jax authors"
version = release = mixboost_jax.__version__

extensions = [
  "docs.mathml",
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx.ext.viewcode",
]
html_theme = "sphinx_book_theme"
html_title = "mixboost_jax"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_js_files = ["docs.js"]
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
html_math_renderer = "mathml"
html_copy_source = False
exclude_patterns = ["_build"]

nitpicky = True  # a name or link that leads nowhere is a warning, and with -W an error
nitpick_ignore_regex = [("py:class|py:exc", ".*")]  # of signatures; prose refers with {py:obj}
suppress_warnings = ["ref.python"]  # a class that two doors show
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"


def setup(app):
  """Connects what writes pages, fills tables and shortens signatures."""
  for part in (api, figures, tables):
    part.setup(app)
