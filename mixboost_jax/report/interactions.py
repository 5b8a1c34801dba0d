# SPDX-License-Identifier: Apache-2.0
"""The figures of interactions: which runs they compare, how they are drawn, in a page or a file."""

import base64
import dataclasses
import io
import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mixboost_jax import interactions, metrics
from mixboost_jax.files import make_folder, write_text
from mixboost_jax.report import charts, compare, svg, titles
from mixboost_jax.report.charts import Figure, Series
from mixboost_jax.report.groups import Group, is_plain
from mixboost_jax.report.svg import Markup, element
from mixboost_jax.runtime.results import Metric

CURVE, TRAINING = "interactions", "interactions_training"
MAP, PICTURE, TREE = "interaction_map", "interaction_picture", "interaction_tree"
ATTACK, OUTLIERS = "interaction_attack", "interaction_outliers"
PATTERNS, FAITHFULNESS = "interaction_and_or", "interaction_and_or_error"
CURVES = (CURVE, TRAINING, MAP, PICTURE, TREE, ATTACK, OUTLIERS, PATTERNS, FAITHFULNESS)
"""Curves of a results file that have figures of their own."""
PROXY = "interaction_proxy"
PLAIN_ERRORS = ("error", "clean_error")
ERRORS = (*PLAIN_ERRORS, "mce", "mfr")
"""Metrics that M is compared with."""
_SHARED = ("data", "model", "augment", "objective", "adversary", "optimizer", "train")
"""Sections that the runs of a sweep of r1 have in common."""
MAX_CONTRASTS = 6
"""Runs in one figure of attacking utilities or outliers."""
MIN_SCATTER = 4
"""Fewest runs for a scatter of M against an error."""

Rows = Sequence[Mapping[str, Any]]

# What was measured, run by run, and which runs stand together.


@dataclasses.dataclass(frozen=True)
class Measured:
  """The interactions of one group; of several seeds the first that has them."""

  label: str
  colour: int
  proxy: float
  proxy_low: float | None
  proxy_high: float | None
  errors: Mapping[str, float]
  """Title of a set of pictures -> error in %."""
  settings: Mapping[str, Any]
  curves: Mapping[str, Rows]

  @property
  def rows(self) -> Rows:
    """The curve J^(m)."""
    return self.curves[CURVE]

  @property
  def keep_rate(self) -> float:
    """r1: fraction of the cells that the masked view keeps; NaN without a boost loss."""
    if self.settings.get("objective", {}).get("name") != "mixboost":
      return math.nan
    return float(self.settings.get("mask", {}).get("keep_rate", math.nan))

  def to_json(self) -> dict[str, Any]:
    """Returns the numbers, without map and tree."""
    names = ("relative", "low", "high", "strength")
    return {
      "orders": [int(row["step"]) for row in self.rows],
      **{name: [row[name] for row in self.rows] for name in names},
      "M": [self.proxy, self.proxy_low, self.proxy_high],
      "errors": dict(self.errors),
    }


def measured(groups: Sequence[Group]) -> list[Measured]:
  """Returns those groups that have a curve J^(m), in their order and colour."""
  found = []
  colours = compare.colours(groups)
  for group in groups:
    for run in group.runs:
      if not run.results.curves.get(CURVE):
        continue
      known = run.results.metrics
      proxy = next((metric for metric in reversed(known) if metric.name == PROXY), None)
      ends = (proxy.value, proxy.low, proxy.high) if proxy else (math.nan, None, None)
      errors = {
        _title(metric): metric.value
        for metric in known
        if metric.name in ERRORS and math.isfinite(metric.value)
      }
      curves = {name: run.results.curves.get(name, ()) for name in CURVES}
      colour = colours[group.label]
      found.append(Measured(group.label, colour, *ends, errors, run.results.settings, curves))
      break
  return found


def _title(metric: Metric) -> str:
  title = titles.dataset(metric.dataset, metric.split)
  return title if metric.name in PLAIN_ERRORS else f"{title}: {titles.metric(metric.name)}"


def sweep(runs: Sequence[Measured]) -> list[Measured]:
  """Returns the largest set of runs that differ in r1 only, by r1; empty if fewer than 3."""
  families: dict[str, dict[float, Measured]] = {}
  for run in runs:
    if math.isfinite(run.keep_rate):
      rest = {key: run.settings.get(key) for key in _SHARED}
      family = families.setdefault(json.dumps(rest, sort_keys=True, default=str), {})
      family.setdefault(round(run.keep_rate, 6), run)
  best = max(families.values(), key=len, default={})
  return [best[rate] for rate in sorted(best)] if len(best) > 2 else []


def without_boost(boosted: Measured, runs: Sequence[Measured]) -> Measured | None:
  """Returns the run that was trained like `boosted`, but by plain risk minimisation."""
  same = [key for key in _SHARED if key != "objective"]
  for run in runs:
    alike = all(run.settings.get(key) == boosted.settings.get(key) for key in same)
    if alike and run.settings.get("objective", {}).get("name") == "erm":
      return run
  return None


def without_noise(noisy: Measured, runs: Sequence[Measured]) -> Measured | None:
  """Returns the run that was trained like `noisy`, but without noise in its pictures."""

  def rest(run: Measured) -> dict[str, Any]:
    augment = {**run.settings.get("augment", {}), "policy": None}
    return {**{key: run.settings.get(key) for key in _SHARED}, "augment": augment}

  def policy(run: Measured) -> Any:
    return run.settings.get("augment", {}).get("policy", {}).get("name")

  if policy(noisy) != "gaussian_noise":
    return None
  plain = (run for run in runs if policy(run) == "none" and rest(run) == rest(noisy))
  return next(plain, None)


def changes(runs: Sequence[Measured]) -> list[tuple[Measured, Rows]]:
  """Returns the runs trained with noise and Delta F^(m) against their partner without."""
  found = []
  for run in runs:
    plain = without_noise(run, runs)
    if plain and [row["step"] for row in plain.rows] == [row["step"] for row in run.rows]:
      found.append((run, interactions.change_rows(run.rows, plain.rows)))
  return found


def reference(runs: Sequence[Measured]) -> Measured | None:
  """Returns the first run of plain risk minimisation."""
  return next((run for run in runs if is_plain(run.settings)), None)


def proxy_scatters(runs: Sequence[Measured]) -> dict[str, list[Measured]]:
  """Returns, for each set of pictures, the runs with M and an error there, if they are enough."""
  names = dict.fromkeys(name for run in runs for name in run.errors)
  with_proxy = [run for run in runs if math.isfinite(run.proxy)]
  table = {name: [run for run in with_proxy if name in run.errors] for name in names}
  return {name: some for name, some in table.items() if len(some) >= MIN_SCATTER}


def contrasts(runs: Sequence[Measured]) -> list[tuple[str, str, list[tuple[Measured, Rows]]]]:
  """Returns title, field and runs with rows of each figure that compares two measurements."""
  found = []
  for title, field, name in (
    ("Attacking utility \u0394J of an order, mean over pairs", "utility", ATTACK),
    ("Outliers minus normal pictures: mean interaction \u0394I", "average", OUTLIERS),
    ("Outliers minus normal pictures: positive share \u0394P", "positive", OUTLIERS),
  ):
    some = [(run, rows) for run in runs if (rows := run.curves[name])]
    if some:
      found.append((title, field, some[:MAX_CONTRASTS]))
  if some := changes(runs):
    title = "Trained with noise against trained without: change \u0394F of J"
    found.append((title, "change", some[:MAX_CONTRASTS]))
  return found


def tree_layout(rows: Rows) -> tuple[dict[int, tuple[float, float]], list[int], float]:
  """Returns the place of every node (leaf number, T), the leaves' players, and the largest T."""
  places: dict[int, tuple[float, float]] = {}
  players = []
  for row in rows:
    node = int(row["step"])
    if row.get("player") is not None:
      places[node] = (float(len(players)), 0.0)
      players.append(int(row["player"]))
    else:
      left, right = places[int(row["left"])], places[int(row["right"])]
      places[node] = ((left[0] + right[0]) / 2, float(row["total"]))
  return places, players, max((place[1] for place in places.values()), default=0.0) or 1.0


# Which figures the results allow.

MAX_PORTRAITS = 3
"""Runs whose map and tree are shown."""
NOTE = (
  "J is the strength of interactions of an order m (the number of other patches present) over its "
  "mean; bands are intervals over pictures. Low orders are on the left, high ones on the right."
)


def collect(groups: Sequence[Group]) -> list[Figure]:
  """Returns curves, the sweep of r1, M against errors, maps, trees, and what a monitor logged."""
  runs = measured(groups)
  rows, found = {run.label: run.rows for run in runs}, []
  for panel in compare.panels(groups):
    coloured = [(g.label, k, rows[g.label]) for g, k in panel.members if g.label in rows]
    if coloured and (not panel.number or any(k for _, k, _ in coloured)):  # not the baseline alone
      found.append(_bands(f"Interaction strength J{panel.number}", coloured, _J, mark=1.0))
  if chain := sweep(runs):
    recoloured = [(f"r1 = {run.keep_rate:g}", k, run.rows) for k, run in enumerate(chain)]
    found.append(_bands("J for fractions r1 of cells kept", recoloured, _J, mark=1.0))
  for title, field, some in contrasts(runs):
    names = (field, f"{field}_low", f"{field}_high")
    coloured = [(run.label, run.colour, rows) for run, rows in some]
    found.append(_bands(title, coloured, names, mark=0.0))
  found += [_scatter(name, some) for name, some in proxy_scatters(runs).items()]
  for run in runs[:MAX_PORTRAITS]:
    if run.curves[MAP]:
      title = f"I(i, j) of the framed cell, {run.label}"
      found.append(Figure(title, heat(title, run.curves[MAP], run.curves[PICTURE])))
    if run.curves[TREE]:
      title = f"Cells merged by T([A]), {run.label}"
      found.append(Figure(title, tree(title, run.curves[TREE])))
    found += _and_or(run)
  return found + _watched(groups)


_J = ("relative", "low", "high")


def _bands(
  title: str, runs: Sequence[tuple[str, int, Rows]], names: tuple[str, str, str], *, mark: float
) -> Figure:
  """Curves over orders; `names` are the fields of the value and of its ends."""
  series = [_band(label, colour, rows, names) for label, colour, rows in runs]
  chart = bands(title, series, x_label="order m / (n \u2212 2)", mark=mark)
  return Figure(title, chart, tuple((label, colour) for label, colour, _ in runs))


def _band(label: str, colour: int, rows: Rows, names: tuple[str, str, str]) -> "Band":
  value, low, high = names
  points = tuple((row["ratio"], row[value], row[low], row[high]) for row in rows)
  return Band(label, colour, points)


def _and_or(run: Measured) -> list[Figure]:
  """The strongest AND and OR patterns of the first picture, and how few of them explain it."""
  found = []
  if rows := run.curves[PATTERNS]:
    title = f"Strongest AND and OR patterns of one picture, {run.label}"
    found.append(Figure(title, patterns(title, rows, run.curves[PICTURE])))
  if rows := run.curves[FAITHFULNESS]:
    title = f"Error of the strongest patterns over all masks, {run.label}"
    kinds = {"error": "AND and OR patterns", "harsanyi": "Harsanyi dividends"}
    series = [
      _band(label, colour, rows, (name, f"{name}_low", f"{name}_high"))
      for colour, (name, label) in enumerate(kinds.items())
    ]
    chart = bands(title, series, x_label="number of patterns, log10", mark=0.0)
    found.append(Figure(title, chart, tuple(zip(kinds.values(), range(2), strict=True))))
  return found


def _scatter(name: str, runs: Sequence[Measured]) -> Figure:
  points = [
    charts.Point(run.label, run.proxy, run.errors[name], run.proxy_low, run.proxy_high, run.colour)
    for run in runs
  ]
  title = f"M(0.2, 0.2, 0.8) and the error on {name}"
  proxies, errors = [p.x for p in points], [p.y for p in points]
  if len(set(proxies)) > 1 and len(set(errors)) > 1:
    r, p_value = metrics.permutation_p(proxies, errors)
    title += f": r = {r:.2f}, permutation p = {p_value:.2g}, {len(points)} runs"
  return Figure(title, charts.scatter(title, points, x_label="M", y_label="error in %"))


def _watched(groups: Sequence[Group]) -> list[Figure]:
  """What the monitor logged during training."""
  series: dict[str, list[Series]] = {}
  several = len(groups) > 1
  names = {"proxy": "M(0.2, 0.2, 0.8)", "low": "J of low orders", "high": "J of high orders"}
  for colour, group in enumerate(groups):
    for run in group.runs:
      points = run.results.curves.get(TRAINING, ())
      for name, title in names.items():
        line = tuple((float(p["step"]), p[name]) for p in points if name in p)
        if line:
          series.setdefault(title, []).append(Series(group.label, line, colour))
  return [
    Figure(
      f"{title} while training",
      charts.lines(f"{title} while training", lines),
      tuple(dict.fromkeys((line.label, line.colour) for line in lines)) if several else (),
    )
    for title, lines in series.items()
  ]


# Their charts: curves with bands, a labelled scatter, a map over a picture, a tree.


@dataclasses.dataclass(frozen=True)
class Band:
  """One curve with its interval; `points` are (x, y, low, high)."""

  label: str
  colour: int
  points: tuple[tuple[float, float, float | None, float | None], ...]


def bands(title: str, series: Sequence[Band], *, x_label: str, mark: float) -> Markup:
  """Draws curves over [0, 1] with their intervals as bands, and a dotted line at height `mark`."""
  width, height, left, right, top, bottom = 480, 290, 44, 12, 12, 38
  every = [p for one in series for p in one.points]
  ends = [value for p in every for value in p[1:] if value is not None]
  low, high, marks = svg.span(ends, include=0.0)
  across = [0.0, 1.0, *(p[0] for p in every)]
  x = svg.Scale(min(across), max(across), left, width - right)
  y = svg.Scale(low, high, height - bottom, top)
  body = [
    svg.grid(x, y, svg.ticks(x.low, x.high, count=5), marks),
    svg.text((left + width - right) / 2, height - 6, x_label, "middle"),
    svg.stroke(x.start, y(mark), x.stop, y(mark), "diagonal"),
  ]
  for one in series:
    sure = [p for p in one.points if p[2] is not None and p[3] is not None]
    outline = [(p[0], p[3]) for p in sure] + [(p[0], p[2]) for p in reversed(sure)]
    if len(sure) > 1:
      places = " ".join(f"{x(a):.1f},{y(float(b or 0)):.1f}" for a, b in outline)
      kind = f"band {svg.series_class(one.colour)}"
      body.append(element("polygon", points=places, class_=kind))
  body += [svg.line([p[:2] for p in one.points], x, y, one.colour) for one in series]
  words = "; ".join(
    f"{one.label}: {one.points[0][1]:.3g} at {one.points[0][0]:.3g}, "
    f"{one.points[-1][1]:.3g} at {one.points[-1][0]:.3g}"
    for one in series
    if one.points
  )
  return svg.figure(title, f"{title} over {x_label}. {words}", width, height, body)


def heat(title: str, cells: Rows, picture: Rows) -> Markup:
  """Draws a picture, and beside it I(i, j) of the framed cell i with every cell j.

  The rows are those of a results file: "value" and "chosen" of each cell, "red", "green", "blue"
  and "column" of each pixel, both row by row.
  """
  side, gap, top, bar = 200.0, 24.0, 4.0, 46.0
  grid = math.isqrt(len(cells))
  cell = side / grid
  limit = max(abs(float(row["value"])) for row in cells) or 1.0
  body = []
  if picture:
    size = {"x": "0", "y": f"{top:g}", "width": f"{side:g}", "height": f"{side:g}"}
    style = {"preserveAspectRatio": "none", "style": "image-rendering:pixelated"}
    body.append(element("image", href=_data_uri(picture), **size, **style))
  offsets = (0.0, side + gap) if picture else (0.0,)
  frames = []
  for row in cells:
    number = int(row["step"])
    place = (number % grid * cell, top + number // grid * cell)
    share = float(row["value"]) / limit
    body.append(_heat(offsets[-1] + place[0], place[1], cell, cell, share))
    if row.get("chosen"):
      frames += [
        _box(offset + place[0], place[1], cell, cell, class_="frame") for offset in offsets
      ]
  body += frames
  edge = offsets[-1] + side + 12
  for k in range(21):
    body.append(_heat(edge, top + k * side / 21, 10.0, side / 21 + 0.3, 1 - k / 10))
  for share, place in ((1, top + 10), (0, top + side / 2 + 4), (-1, top + side)):
    sign = "+" if share > 0 else "\u2212" if share < 0 else ""
    body.append(svg.text(edge + 14, place, f"{sign}{abs(share) * limit:.2g}", "start"))
  strongest = max(cells, key=lambda row: abs(float(row["value"])))
  words = (
    f"{title}: {grid} by {grid} cells; the strongest interaction is "
    f"{float(strongest['value']):.3g} with cell {int(strongest['step'])}"
  )
  return svg.figure(title, words, edge + bar + 14, side + 2 * top, body)


def _box(x: float, y: float, width: float, height: float, **attributes: str) -> Markup:
  size = {"x": x, "y": y, "width": width, "height": height}
  return element("rect", **{name: f"{value:.2f}" for name, value in size.items()}, **attributes)


def _heat(x: float, y: float, width: float, height: float, share: float) -> Markup:
  kind = f"heat {'positive' if share > 0 else 'negative'}"
  return _box(x, y, width, height, class_=kind, style=f"fill-opacity:{abs(share):.3f}")


def _data_uri(picture: Rows) -> str:
  """The picture as a PNG inside the page."""
  from PIL import Image

  width = 1 + max(int(row["column"]) for row in picture)
  pixels = bytes(int(row[c]) for row in picture for c in ("red", "green", "blue"))
  png = io.BytesIO()
  Image.frombytes("RGB", (width, len(picture) // width), pixels).save(png, "png")
  return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def patterns(title: str, rows: Rows, picture: Rows) -> Markup:
  """Draws the strongest patterns as a table: its cells over the picture, its kind, its effect."""
  side, gap, bar = 44.0, 8.0, 250.0
  limit = max(abs(float(row["effect"])) for row in rows) or 1.0
  middle, body = side + 60 + bar / 2, []
  for rank, row in enumerate(rows):
    top, down, across = rank * (side + gap), int(row["rows"]), int(row["columns"])
    if picture:
      size = {"x": "0", "y": f"{top:g}", "width": f"{side:g}", "height": f"{side:g}"}
      style = {"preserveAspectRatio": "none", "style": "image-rendering:pixelated"}
      body.append(element("image", href=_data_uri(picture), **size, **style))
    high, wide = side / down, side / across
    for cell in range(down * across):
      if int(row["players"]) >> cell & 1:
        place = (cell % across * wide, top + cell // across * high)
        body.append(_box(*place, wide, high, class_="frame"))
    centre = top + side / 2
    body.append(svg.text(side + 8, centre + 4, "OR" if row["is_or"] else "AND", "start"))
    reach = float(row["effect"]) / limit * (bar / 2 - 34)
    body.append(_heat(middle + min(reach, 0.0), centre - 7, abs(reach), 14, reach / (bar / 2)))
    sign, anchor = ("+", "start") if reach >= 0 else ("\u2212", "end")
    place = middle + reach + (4 if reach >= 0 else -4)
    body.append(svg.text(place, centre + 4, f"{sign}{abs(float(row['effect'])):.2g}", anchor))
  words = "; ".join(
    f"{'OR' if row['is_or'] else 'AND'} of {int(row['size'])}: {float(row['effect']):.3g}"
    for row in rows
  )
  return svg.figure(title, f"{title}. {words}", side + 60 + bar, len(rows) * (side + gap), body)


def tree(title: str, rows: Rows) -> Markup:
  """Draws a tree of cells; the height of a node is T of its span."""
  width, height, left, right, top, bottom = 480, 270, 52, 14, 14, 40
  places, players, tallest = tree_layout(rows)
  _, high, marks = svg.span([tallest], include=0.0)
  x = svg.Scale(-0.5, max(1, len(players)) - 0.5, left, width - right)
  y = svg.Scale(0.0, high, height - bottom, top)
  step = marks[1] - marks[0] if len(marks) > 1 else 1.0
  body = []
  for mark in marks:
    body.append(svg.stroke(x.start, y(mark), x.stop, y(mark), "grid"))
    body.append(svg.text(x.start - 6, y(mark) + 4, svg.label(mark, step), "end"))
  for number, player in enumerate(players):
    body.append(svg.text(x(number), height - bottom + 16, str(player), "middle"))
  body.append(svg.text((left + width - right) / 2, height - 6, "cell", "middle"))
  body.append(svg.turned(12, (top + height - bottom) / 2, "T([A])"))
  for row in rows:
    if row.get("left") is None:
      continue
    here = places[int(row["step"])]
    colour = 0 if float(row["interaction"]) >= 0 else 1
    for child in (places[int(row["left"])], places[int(row["right"])]):
      corner = [(child[0], child[1]), (child[0], here[1]), (here[0], here[1])]
      body.append(svg.line(corner, x, y, colour))
    body.append(svg.dot(x(here[0]), y(here[1]), 3, colour))
  words = f"{title}: {len(players)} cells, T of all together {tallest:.3g}"
  return svg.figure(title, words, width, height, body)


def write(groups: Sequence[Group], folder: pathlib.Path, *, title: str = "") -> list[pathlib.Path]:
  """Writes every figure that the results allow as an SVG file, for a paper; returns the files.

  `title`, what was measured, stands above every figure.
  """
  if not measured(groups):
    raise ValueError("report: no run has interactions.json; use --job=interactions first.")
  make_folder(folder)
  files = []
  for number, figure in enumerate(collect(groups), 1):
    name = re.sub(r"\W+", "_", figure.title.partition(": r =")[0].lower(), flags=re.ASCII)
    heading = f"{title}: {figure.title}" if title else figure.title
    files.append(folder / f"{number:02d}_{name.strip('_')}.svg")
    write_text(files[-1], svg.alone(figure.chart, heading, figure.legend))
  return files
