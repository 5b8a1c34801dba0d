# SPDX-License-Identifier: Apache-2.0
"""Which figures of interactions the results allow, for the page."""

from collections.abc import Sequence

from mixboost_jax import interactions
from mixboost_jax.report import charts
from mixboost_jax.report import interaction_charts as drawn
from mixboost_jax.report import interaction_data as data
from mixboost_jax.report.aggregate import Group
from mixboost_jax.report.figures import Figure
from mixboost_jax.report.interaction_data import Measured

MAX_PORTRAITS = 3
"""Runs whose map and tree are shown."""
NOTE = (
  "J is the strength of interactions of an order m (the number of other patches present) over its "
  "mean; bands are intervals over pictures. Low orders are on the left, high ones on the right."
)


def collect(groups: Sequence[Group]) -> list[Figure]:
  """Returns curves, the sweep of r1, M against errors, maps, trees, and what a monitor logged."""
  runs = data.measured(groups)
  found = [
    _curves(f"Interaction strength J{_numbered(k, n)}", panel) for k, n, panel in _numbers(runs)
  ]
  if chain := data.sweep(runs):
    recoloured = [(f"r1 = {run.keep_rate:g}", k, run) for k, run in enumerate(chain)]
    found.append(_bands("J for fractions r1 of cells kept", recoloured))
  found += [_contrast(*one) for one in data.contrasts(runs)]
  for name, some in data.scatters(runs).items():
    found.append(_scatter(name, some))
  for run in runs[:MAX_PORTRAITS]:
    if run.map:
      title = f"I(i, j) of the framed cell, {run.label}"
      found.append(Figure(title, drawn.heat(title, run.map, run.picture)))
    if run.tree:
      title = f"Cells merged by T([A]), {run.label}"
      found.append(Figure(title, drawn.tree(title, run.tree)))
  return found + _watched(groups)


def _numbers(runs: Sequence[Measured]) -> list[tuple[int, int, list[Measured]]]:
  panels = data.panels(runs) if runs else []
  return [(k, len(panels), panel) for k, panel in enumerate(panels)]


def _numbered(number: int, count: int) -> str:
  return f" ({number + 1} of {count})" if count > 1 else ""


def _curves(title: str, runs: Sequence[Measured]) -> Figure:
  own = len({run.colour % charts.NUM_COLOURS for run in runs}) == len(runs)
  return _bands(title, [(run.label, run.colour if own else k, run) for k, run in enumerate(runs)])


def _bands(title: str, runs: Sequence[tuple[str, int, Measured]]) -> Figure:
  series = [
    drawn.Band(
      label,
      colour,
      tuple((row["ratio"], row["relative"], row["low"], row["high"]) for row in run.rows),
    )
    for label, colour, run in runs
  ]
  chart = drawn.bands(title, series, x_label="order m / (n \u2212 2)", mark=1.0)
  return Figure(title, chart, tuple((label, colour) for label, colour, _ in runs))


def _contrast(title: str, field: str, runs: Sequence[tuple[Measured, data.Rows]]) -> Figure:
  series = [
    drawn.Band(
      run.label,
      run.colour,
      tuple((row["ratio"], row[field], row[f"{field}_low"], row[f"{field}_high"]) for row in rows),
    )
    for run, rows in runs
  ]
  chart = drawn.bands(title, series, x_label="order m / (n \u2212 2)", mark=0.0)
  return Figure(title, chart, tuple((run.label, run.colour) for run, _ in runs))


def _scatter(name: str, runs: Sequence[Measured]) -> Figure:
  points = [
    drawn.Point(run.label, run.proxy, run.errors[name], run.proxy_low, run.proxy_high, run.colour)
    for run in runs
  ]
  title = f"M(0.2, 0.2, 0.8) and the error on {name}"
  proxies, errors = [p.x for p in points], [p.y for p in points]
  if len(set(proxies)) > 1 and len(set(errors)) > 1:
    r, p_value = interactions.permutation_p(proxies, errors)
    title += f": r = {r:.2f}, permutation p = {p_value:.2g}, {len(points)} runs"
  return Figure(title, drawn.scatter(title, points, x_label="M", y_label="error in %"))


def _watched(groups: Sequence[Group]) -> list[Figure]:
  """What the monitor logged during training."""
  series: dict[str, list[charts.Series]] = {}
  several = len(groups) > 1
  names = {"proxy": "M(0.2, 0.2, 0.8)", "low": "J of low orders", "high": "J of high orders"}
  for colour, group in enumerate(groups):
    for run in group.runs:
      points = run.results.curves.get(data.TRAINING, ())
      for name, title in names.items():
        line = tuple((float(p["step"]), p[name]) for p in points if name in p)
        if line:
          series.setdefault(title, []).append(charts.Series(group.label, line, colour))
  return [
    Figure(
      f"{title} while training",
      charts.lines(f"{title} while training", lines),
      tuple(dict.fromkeys((line.label, line.colour) for line in lines)) if several else (),
    )
    for title, lines in series.items()
  ]
