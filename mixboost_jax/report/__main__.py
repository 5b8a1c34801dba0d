# SPDX-License-Identifier: Apache-2.0
"""Command line of the report.

python -m mixboost_jax.report RUN_DIR... [--out=FILE.html]
python -m mixboost_jax.report --update-readme=README.md results/*.json
python -m mixboost_jax.report --claims [RESULTS...]
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from mixboost_jax.report import claims, groups, interactions, ledger, page, readme

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes a report or the ledger of claims, or fills a README; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m mixboost_jax.report",
    description="Renders results files as one HTML file and a Markdown file beside it.",
  )
  parser.add_argument(
    "results", nargs="*", metavar="RUN_DIR", help="run folder, folder of run folders, or JSON file"
  )
  parser.add_argument(
    "--out", metavar="FILE.html", help="default: report.html in RUN_DIR, or beside several"
  )
  parser.add_argument(
    "--update-readme", metavar="FILE.md", help="fill its <!-- results:NAME --> tables instead"
  )
  parser.add_argument(
    "--figures", metavar="FOLDER", help="also draw the interactions as SVG files there"
  )
  parser.add_argument(
    "--claims", action="store_true", help="fill the ledger of the papers' claims from results/"
  )
  options = parser.parse_args(arguments)
  try:
    if options.update_readme:
      changed = readme.update(options.update_readme, options.results)
      print(f"{options.update_readme}: {'updated' if changed else 'already up to date'}")
    elif options.claims:
      out = pathlib.Path(options.out or "results/claims.html")
      print(claims.write(ledger.SOURCES, options.results or ["results"], out))
    else:
      print(page.write(options.results, options.out or _default_out(options.results)))
      if options.figures:
        runs = groups.load(options.results)
        with groups.explaining(runs):
          drawn = interactions.write(groups.group(runs), pathlib.Path(options.figures))
        print(*drawn, sep="\n")
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER_ERROR
  return 0


def _default_out(sources: Sequence[str]) -> pathlib.Path:
  """One folder keeps its report inside; several keep it in the folder around the first."""
  if not sources:
    return pathlib.Path()
  first = pathlib.Path(sources[0])
  folder = first if first.is_dir() else first.parent
  return folder if len(sources) == 1 else folder.resolve().parent


if __name__ == "__main__":
  sys.exit(main())
