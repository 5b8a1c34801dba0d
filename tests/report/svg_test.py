# SPDX-License-Identifier: Apache-2.0

import math
from xml.etree import ElementTree

import pytest

from mixboost_jax.report import svg
from mixboost_jax.report.svg import Markup, element, join


def test_text_is_escaped_and_markup_is_not():
  made = element("p", "<b> & co", Markup("<i>x</i>"), None, ["a", "<"])
  assert made == "<p>&lt;b&gt; &amp; co<i>x</i>a&lt;</p>"


def test_attributes():
  made = element("td", colspan=2, class_="wide", aria_label='say "<hi>"', hidden=True, id=None)
  assert made == (
    '<td colspan="2" class="wide" aria-label="say &quot;&lt;hi&gt;&quot;" hidden="hidden"></td>'
  )


def test_void_elements_have_no_end():
  assert element("img", src="x", alt="") == '<img src="x" alt=""/>'


def test_control_characters_never_reach_the_page():
  made = element("p", "a\x00b\x1bc\x7f", title="\x01")
  parsed = ElementTree.fromstring(made)
  assert parsed.text == "a\ufffdb\ufffdc\ufffd"
  assert parsed.get("title") == "\ufffd"


def test_join_escapes_too():
  assert join(["a<b", Markup("<br/>")]) == "a&lt;b<br/>"


@pytest.mark.parametrize(
  ("low", "high", "want"),
  [
    (0, 10, [0, 2, 4, 6, 8, 10]),
    (0.13, 0.52, [0.2, 0.3, 0.4, 0.5]),
    (-3, 3, [-2, 0, 2]),
    (0, 30_000, [0, 10_000, 20_000, 30_000]),
  ],
)
def test_ticks_are_round_and_inside(low, high, want):
  assert svg.ticks(low, high) == pytest.approx(want)


@pytest.mark.parametrize("power", range(-9, 10))
def test_there_are_always_some_ticks_but_not_many(power):
  marks = svg.ticks(0.0, 1.7 * 10.0**power)
  assert 3 <= len(marks) <= 11
  assert marks[0] == 0
  assert marks[-1] <= 1.7 * 10.0**power


def test_an_empty_range_has_one_tick():
  assert svg.ticks(2.0, 2.0) == [2.0]


def test_scale_maps_ends_to_ends():
  scale = svg.Scale(10, 20, 100, 0)
  assert (scale(10), scale(15), scale(20)) == (100, 50, 0)


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0, 0.0], [1.0, math.inf, 2.0]])
def test_bounds_are_never_empty(values):
  low, high = svg.bounds(values)
  assert math.isfinite(low)
  assert low < high


def test_bounds_start_at_an_included_zero():
  assert svg.bounds([5.0, 10.0], include=0.0)[0] == 0.0


@pytest.mark.parametrize(
  ("values", "include", "want"),
  [
    ([12.92], 0.0, [0, 5, 10, 15]),  # not 0 to 10
    ([-12.92, 3.0], None, [-15, -10, -5, 0, 5]),
    ([0.2, 0.5], None, [0.2, 0.3, 0.4, 0.5]),
    ([], 0.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ([7.0, math.inf], None, [6.8, 7.0, 7.2]),
  ],
)
def test_no_value_lies_beyond_the_last_number_of_an_axis(values, include, want):
  low, high, marks = svg.span(values, include=include)
  assert marks == pytest.approx(want)
  assert low <= marks[0] < marks[-1] <= high


@pytest.mark.parametrize(
  ("value", "step", "want"),
  [
    (0.0, 0.1, "0"),
    (0.30000000000000004, 0.1, "0.3"),
    (1.0, 0.5, "1.0"),
    (1500, 500, "1,500"),
    (20000, 10000, "20k"),
    (-2, 2, "\u22122"),
    (0.0005, 0.0005, "0.0005"),
  ],
)
def test_labels(value, step, want):
  assert svg.label(value, step) == want


def test_thinning_keeps_first_and_last():
  points = [(float(i), 0.0) for i in range(10_001)]
  kept = svg.thin(points, limit=100)
  assert len(kept) <= 102
  assert kept[0] == points[0]
  assert kept[-1] == points[-1]
  assert svg.thin(points[:5]) == points[:5]
