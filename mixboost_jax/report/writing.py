# SPDX-License-Identifier: Apache-2.0
"""`write`: results in, one HTML file and one Markdown file out."""

import os
import pathlib
from collections.abc import Iterable

from mixboost_jax.report import aggregate, content, markdown, page, robustness
from mixboost_jax.report.aggregate import Source
from mixboost_jax.runtime import atomic

DEFAULT_NAME = "report.html"


def write(results: Source | Iterable[Source], path: str | os.PathLike) -> pathlib.Path:
  """Writes the report of one or more runs.

  Runs that differ in their seed only are shown as mean ± standard deviation. The first run trained
  without extras, or else the first run, is the baseline of all comparisons.

  Args:
    results: `Results` in memory, results files, run folders, folders of run folders, or a list of
      them. Sample pictures of `Results` in memory are looked for beside the report.
    path: the `.html` file, or a folder for `report.html`; a `.md` file of the same name goes beside
      it.

  Returns:
    Path of the HTML file.

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
    WriteError: if the report cannot be written; an older one stays.
  """
  target = pathlib.Path(path)
  if target.suffix.lower() not in (".html", ".htm"):
    target = target / DEFAULT_NAME
  gathered = content.gather(results, sample_folder=target.parent)
  html, text = page.render(gathered), markdown.render(gathered)
  atomic.make_folder(target.parent)
  atomic.write_text(target, html)
  atomic.write_text(target.with_suffix(".md"), text)
  return target


def robustness_table(results: Source | Iterable[Source]) -> str | None:
  """Returns the columns of the MixBoost paper as a Markdown table, or None if they were not run.

  Args:
    results: as for `write`.

  Raises:
    ValueError: if there is nothing to read, or a file is not a results file.
  """
  runs = aggregate.load(results)
  with aggregate.explaining(runs):
    data = robustness.standard_table(aggregate.group(runs))
  return None if data is None else f"{markdown.table(data)}\n\n{data.caption}"
