# SPDX-License-Identifier: Apache-2.0
import itertools
import math
from xml.etree import ElementTree

import pytest

from mixboost_jax.report import charts, svg


def parts(chart, tag, kind=""):
  return [e for e in ElementTree.fromstring(chart).iter(tag) if kind in e.get("class", "")]


def test_a_line_has_its_ends_at_the_right_places():
  series = charts.Series("run", ((0, 1.0), (50, 3.0), (100, 2.0)), 0)
  (line,) = parts(charts.lines("Loss", [series], from_zero=True), "polyline")
  places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
  assert [x for x, _ in places] == [52.0, 260.0, 468.0]
  heights = [232.0 - y for _, y in places]  # above the axis
  assert heights[1] / heights[0] == pytest.approx(3.0, rel=0.01)
  assert heights[2] / heights[0] == pytest.approx(2.0, rel=0.01)


def test_gaps_break_the_line():
  points = (
    (1, 1.0),
    (2, 2.0),
    (3, None),
    (4, math.nan),
    (5, 1.0),
    (6, 2.0),
    (7, math.inf),
    (8, 1.0),
  )
  chart = charts.lines("Loss", [charts.Series("run", points, 0)])
  assert len(parts(chart, "polyline")) == 2
  assert len(parts(chart, "circle")) == 1  # a point alone is a dot


def test_colours_repeat_after_the_last():
  series = [charts.Series(str(i), ((0, 0.0), (1, float(i))), i) for i in range(10)]
  kinds = [line.get("class") for line in parts(charts.lines("Loss", series), "polyline")]
  assert kinds[0] == "line c0"
  assert kinds[8] == "line c0"
  assert len(set(kinds)) == svg.NUM_COLOURS


@pytest.mark.parametrize("points", [(), ((3, None),), ((0, 1.0),)])
def test_almost_no_points(points):
  chart = ElementTree.fromstring(charts.lines("Loss", [charts.Series("run", points, 0)]))
  assert chart.tag.endswith("svg")


def test_reliability_shows_filled_bins_only():
  bins = [charts.Bin(0.0, 0.5, 0, None, None), charts.Bin(0.5, 1.0, 10, 0.75, 0.5)]
  chart = charts.reliability("Set", [("A", bins, 0), ("B", bins, 1)])
  dots = parts(chart, "circle")
  assert len(dots) == 4  # one bin: a lone point is drawn twice, as line and as dot
  assert {dot.get("cx") for dot in dots} == {f"{46 + 0.75 * (310 - 46):.1f}"}
  assert "A: mean gap 25.00 %" in chart


def test_charts_speak():
  chart = charts.lines("Loss", [charts.Series("ERM", ((0, 2.0), (9, 0.5)), 0)])
  root = ElementTree.fromstring(chart)
  assert root.get("role") == "img"
  assert "ERM: from 2 to 0.5 at step 9" in root.get("aria-label")
  assert root.find("title").text == "Loss"


def test_labels_stand_beside_dots_and_not_on_each_other():
  places = [(100.0 + 3 * k, 50.0 + k, f"a long name {k}") for k in range(8)]
  found = charts._beside(places, 40, 300, 0)
  texts = [ElementTree.fromstring(one) for one in found if one.startswith("<text")]
  boxes = []
  for one in texts:
    wide = 5.8 * len(one.text)
    start = float(one.get("x")) - (wide if one.get("text-anchor") == "end" else 0)
    assert 40 < start < start + wide < 300
    boxes.append((start, float(one.get("y")), wide))
  for (a, at, wide), (b, other, _) in itertools.combinations(sorted(boxes), 2):
    assert b > a + wide or abs(at - other) > 10.9
  assert len(found) > len(texts)  # lines lead to those far off
