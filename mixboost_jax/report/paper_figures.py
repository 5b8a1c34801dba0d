# SPDX-License-Identifier: Apache-2.0
"""The figures of interactions as PNG files for a paper; needs matplotlib (extra `plots`)."""

import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixboost_jax import interactions
from mixboost_jax.report import interaction_data as data
from mixboost_jax.report.aggregate import Group
from mixboost_jax.report.interaction_data import Measured
from mixboost_jax.runtime import atomic

COLOURS = ("#0064a8", "#c2500a", "#00805c", "#a3457d", "#8a6d00", "#3f3f46")
DASHES = ("-", "--", ":", "-.", (0, (4, 3)), (0, (1, 4)))
SCATTERS_PER_ROW = 3
MAX_MAPS = 4
"""Runs in the figure of maps."""
X_LABEL, Y_LABEL = "order $m / (n - 2)$", "interaction strength $J^{(m)}$"


def write(groups: Sequence[Group], folder: pathlib.Path, *, title: str = "") -> list[pathlib.Path]:
  """Draws whatever the results allow: curves, sweep of r1, M against errors, map, tree.

  Args:
    groups: from `aggregate.group`.
    folder: of the PNG files; created.
    title: what was measured, above every figure.

  Returns:
    The files.

  Raises:
    ValueError: without matplotlib, or if no run has interactions.
  """
  runs = data.measured(groups)
  if not runs:
    raise ValueError("report: no run has interactions.json; use --job=interactions first.")
  jobs: dict[str, tuple[Callable[..., None], Any, tuple[float, float]]] = {}
  panels = data.panels(runs)
  for number, panel in enumerate(panels):
    name = "strength" if len(panels) == 1 else f"strength_{number + 1}"
    jobs[name] = (_curves, [(run.label, run) for run in panel], (5.2, 3.6))
  if chosen := _four(runs):
    jobs["strength_boost"] = (_curves, [(run.label, run) for run in chosen], (5.2, 3.6))
  if chain := data.sweep(runs):
    base = data.without_boost(chain[0], runs)
    named = [("no boost", base)] if base else []
    named += [(f"$r_1 = {run.keep_rate:g}$", run) for run in chain]
    jobs["strength_sweep"] = (_curves, named, (5.2, 3.6))
  for title, field, some in data.contrasts(runs):
    jobs[f"contrast_{field}"] = (_contrasts, (title, field, some), (5.2, 3.6))
  if scatters := data.scatters(runs):
    columns = min(SCATTERS_PER_ROW, len(scatters))
    jobs["proxy"] = (_scatters, scatters, (4.8 * columns, 4.0 * -(-len(scatters) // columns)))
  if shown := [run for run in runs if run.map and run.picture][:MAX_MAPS]:
    jobs["map"] = (_maps, shown, (4.6, 2.1 * len(shown) + 0.3))
  if runs[0].tree:
    jobs["tree"] = (_tree, runs[0], (5.2, 3.4))
  atomic.make_folder(folder)
  files = []
  for name, (draw, content, size) in jobs.items():
    files.append(folder / f"{name}.png")
    atomic.write_bytes(files[-1], _png(draw, content, size, title))
  return files


def _four(runs: Sequence[Measured]) -> list[Measured]:
  """Baseline and PixMix, each without and with the boost loss at r1 = 0.7."""
  found = {}
  for run in runs:
    policy = run.settings.get("augment", {}).get("policy", {}).get("name")
    plain = run.settings.get("objective", {}).get("align", "none") == "none"
    boosted = run.keep_rate == run.keep_rate
    if policy in ("none", "pixmix") and plain and (not boosted or abs(run.keep_rate - 0.7) < 1e-6):
      found.setdefault((policy, boosted), run)
  return [found[key] for key in sorted(found)] if len(found) == 4 else []


def _png(draw: Callable[..., None], content: Any, size: tuple[float, float], title: str) -> bytes:
  try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
  except ImportError as error:
    raise ValueError("report: PNG figures need matplotlib (pip install matplotlib).") from error
  figure = Figure(figsize=size, layout="constrained")
  FigureCanvasAgg(figure)
  if title:
    figure.suptitle(title, fontsize=9)
  draw(figure, content)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
  return buffer.getvalue()


def _curves(figure: Any, runs: Sequence[tuple[str, Measured]]) -> None:
  axes = figure.add_subplot()
  for k, (label, run) in enumerate(runs):
    x = [row["ratio"] for row in run.rows]
    style = {"color": COLOURS[k % 6], "linestyle": DASHES[k % 6], "linewidth": 1.6}
    axes.plot(x, [row["relative"] for row in run.rows], label=label, **style)
    if run.rows[0]["low"] is not None:
      low, high = ([row[end] for row in run.rows] for end in ("low", "high"))
      axes.fill_between(x, low, high, color=COLOURS[k % 6], alpha=0.12, linewidth=0)
  axes.axhline(1.0, color="0.6", linewidth=0.7, linestyle=":")
  axes.set(xlabel=X_LABEL, ylabel=Y_LABEL, xlim=(0, 1))
  axes.set_ylim(bottom=0)
  axes.legend(fontsize=8, frameon=False)


def _contrasts(figure: Any, content: tuple[str, str, list[tuple[Measured, data.Rows]]]) -> None:
  title, field, runs = content
  axes = figure.add_subplot()
  for k, (run, rows) in enumerate(runs):
    x = [row["ratio"] for row in rows]
    style = {"color": COLOURS[k % 6], "linestyle": DASHES[k % 6], "linewidth": 1.6}
    axes.plot(x, [row[field] for row in rows], label=run.label, **style)
    low, high = ([row[f"{field}_{end}"] for row in rows] for end in ("low", "high"))
    if None not in low:
      axes.fill_between(x, low, high, color=COLOURS[k % 6], alpha=0.12, linewidth=0)
  axes.axhline(0.0, color="0.6", linewidth=0.7, linestyle=":")
  axes.set(xlabel=X_LABEL, ylabel=title, xlim=(0, 1))
  axes.yaxis.label.set_size(8)
  axes.legend(fontsize=8, frameon=False)


def _scatters(figure: Any, table: dict[str, list[Measured]]) -> None:
  columns = min(SCATTERS_PER_ROW, len(table))
  every = figure.subplots(-(-len(table) // columns), columns, squeeze=False).ravel()
  for axes in every[len(table) :]:
    axes.set_visible(False)
  for axes, (name, runs) in zip(every[: len(table)], table.items(), strict=True):
    x, y = [run.proxy for run in runs], [run.errors[name] for run in runs]
    for run in runs:
      if run.proxy_low is not None and run.proxy_high is not None:
        axes.plot([run.proxy_low, run.proxy_high], [run.errors[name]] * 2, color="0.8", linewidth=1)
    axes.scatter(x, y, s=18, color=COLOURS[0], zorder=3)
    for run, a, b in zip(runs, x, y, strict=True):
      axes.annotate(run.label, (a, b), xytext=(3, 3), textcoords="offset points", fontsize=6)
    heading = name
    if len(set(x)) > 1 and len(set(y)) > 1:
      r, p_value = interactions.permutation_p(x, y)
      heading += f"\n$r$ = {r:.2f}, permutation $p$ = {p_value:.2g}, {len(runs)} runs"
    axes.set_title(heading, fontsize=9)
    axes.set(xlabel="$M(0.2, 0.2, 0.8)$", ylabel="error in %")


def _maps(figure: Any, runs: Sequence[Measured]) -> None:
  """One row per run: the picture, and I(i, j) of the framed cell i."""
  every = figure.subplots(len(runs), 2, squeeze=False)
  for (left, right), run in zip(every, runs, strict=True):
    grid = round(len(run.map) ** 0.5)
    values = np.array([row["value"] for row in run.map]).reshape(grid, grid)
    chosen = next(int(row["step"]) for row in run.map if row["chosen"])
    limit = np.abs(values).max() or 1.0
    width = 1 + max(int(row["column"]) for row in run.picture)
    pixels = [[row["red"], row["green"], row["blue"]] for row in run.picture]
    left.imshow(np.array(pixels, np.uint8).reshape(-1, width, 3))
    image = right.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=right).ax.tick_params(labelsize=6)
    left.set_ylabel(run.label, fontsize=8)
    right.set_title("$I(i, j)$", fontsize=8)
    _frame(left, chosen, grid, width / grid)
    _frame(right, chosen, grid, 1.0)
    for axes in (left, right):
      axes.set_xticks([])
      axes.set_yticks([])


def _frame(axes: Any, cell: int, grid: int, side: float) -> None:
  from matplotlib.patches import Rectangle

  corner = (cell % grid * side - 0.5, cell // grid * side - 0.5)
  axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="black", linewidth=1.2))


def _tree(figure: Any, run: Measured) -> None:
  axes = figure.add_subplot()
  places, players, tallest = data.tree_layout(run.tree)
  for row in run.tree:
    if row.get("left") is None:
      continue
    here = places[int(row["step"])]
    colour = COLOURS[0] if row["interaction"] >= 0 else COLOURS[1]
    for child in (places[int(row["left"])], places[int(row["right"])]):
      axes.plot([child[0], child[0], here[0]], [child[1], here[1], here[1]], color=colour)
    axes.plot(*here, "o", color=colour, markersize=4)
  axes.set_xticks(range(len(players)), [str(player) for player in players])
  axes.set(xlabel="cell", ylabel="$T([A])$", ylim=(0, 1.08 * tallest))
  axes.set_title(f"{run.label}: blue $B([A]) \\geq 0$, orange $B([A]) < 0$", fontsize=8)
