# SPDX-License-Identifier: Apache-2.0
"""The gallery: figures under results/, those of studies, and pictures of executed notebooks."""

import base64
import json
import pathlib
import re
from typing import Any

from mixboost_jax.report import analysis, groups, interactions, svg

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/gallery"
CAPTIONS = {
  "interactions/strength_boost.svg": (
    "J^(m) of all orders: baseline and PixMix, without and with the boost. Short runs on CIFAR-10 "
    "(JPEG), bands over pictures; see [](../results.md)."
  ),
  "benchmarks/scaling.svg": (
    "Images per second and chip over those of one chip, predicted from compiled programs, not "
    "measured; see [](../howto/compile.md)."
  ),
}
"""SVG file under results/ -> what it shows. A file that is not listed here is shown by its name."""


def setup(app: Any) -> None:
  """Writes the gallery before Sphinx looks for pages."""
  app.connect("config-inited", lambda app, config: write())


def write() -> None:
  """Writes docs/gallery/index.md and the pictures beside it; leaves alone what is the same."""
  FOLDER.mkdir(exist_ok=True)
  lines = [
    "# Gallery",
    "",
    "Every figure is made by code of the repository: by a benchmark or report, or by a notebook "
    "that was run to its end. A report of your own runs has these and more "
    "([](../results.md), [](../howto/own_model.md)).",
    "",
    "## Figures of committed results",
    "",
  ]
  for place in sorted((ROOT / "results").rglob("*.svg")):
    name = str(place.relative_to(ROOT / "results"))
    _keep(FOLDER / place.name, place.read_bytes())
    lines += [f"![{name}]({place.name})", "", CAPTIONS.get(name, f"`results/{name}`"), ""]
  for place in sorted((ROOT / "results/studies").iterdir()):
    lines += study(place)
  for place in sorted((ROOT / "colabs").glob("*.ipynb")):
    lines += notebook(place)
  _keep(FOLDER / "index.md", "\n".join(lines).encode())


def study(place: pathlib.Path) -> list[str]:
  """Returns a section with the figures of augmentations and interactions that a study allows."""
  found = groups.group(groups.load(sorted(place.glob("*.json"))), prefix=f"{place.name}_")
  lines = []
  for number, figure in enumerate([*analysis.collect(found), *interactions.collect(found)], 1):
    file = f"study_{place.name}_{number}.svg"
    _keep(FOLDER / file, svg.alone(figure.chart, figure.title, figure.legend).encode())
    lines += [f"![{figure.title}]({file})", ""]
  source = f"Study `configs/studies/{place.name}.py`, results in `results/studies/{place.name}`."
  return [f"## Study {place.name}", "", source, "", *lines] if lines else []


def notebook(place: pathlib.Path) -> list[str]:
  """Returns a section with the pictures that a notebook drew, under the headings they stand in."""
  cells = json.loads(place.read_text(encoding="utf-8"))["cells"]
  title, heading, shown, lines = place.stem, "", "", []
  number = 0
  for cell in cells:
    if cell["cell_type"] == "markdown":
      for level, text in re.findall(r"^(#+) (.+)$", "".join(cell["source"]), re.M):
        title, heading = (text, "") if level == "#" else (title, text)
      continue
    for output in cell["outputs"]:
      if picture := output.get("data", {}).get("image/png"):
        number += 1
        file = f"{place.stem}_{number}.png"
        _keep(FOLDER / file, base64.b64decode("".join(picture)))
        if heading != shown:
          lines += [f"**{heading}**", ""]
          shown = heading
        lines += [f"![{title}: {heading}]({file})", ""]
  return [f"## {title}", "", f"Notebook `colabs/{place.name}`.", "", *lines]


def _keep(place: pathlib.Path, content: bytes) -> None:
  if not place.exists() or place.read_bytes() != content:
    place.write_bytes(content)
