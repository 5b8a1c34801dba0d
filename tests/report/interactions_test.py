# SPDX-License-Identifier: Apache-2.0
"""Figures of interactions from results files alone: what is drawn, of which runs."""

import dataclasses
from xml.etree import ElementTree

import pytest

from mixboost_jax import report
from mixboost_jax.report import groups, interactions
from mixboost_jax.runtime import results

ORDERS = (0, 3, 7, 11, 14)
TREE = [
  {"step": 0, "size": 1, "player": 1},
  {"step": 1, "size": 1, "player": 0},
  {"step": 2, "size": 2, "left": 0, "right": 1, "interaction": -0.5, "total": 2.0},
]


def contrast(*fields):
  ends = {f"{name}{end}": value for name in fields for end, value in _ENDS.items()}
  return [{"step": m, "ratio": m / 14, **ends} for m in ORDERS]


_ENDS = {"": 0.5, "_low": 0.25, "_high": 0.75}


def rows(level):
  values = [level, 1.0, 0.5, 1.0, 1.5]
  names = ("relative", "strength", "average", "positive_ratio", "disentanglement")
  return [
    {"step": m, "ratio": m / 14, "low": v - 0.2, "high": v + 0.2, **dict.fromkeys(names, v)}
    for m, v in zip(ORDERS, values, strict=True)
  ]


@pytest.fixture
def write(make, tmp_path):
  """Writes a run folder with results.json and interactions.json."""

  def do(name, *, keep_rate=None, error=10.0, level=1.0, policy="none", adversary="none"):
    settings = make.settings() | {"name": f"demo_{name}"}
    settings |= {
      "objective": {"name": "mixboost" if keep_rate else "erm"},
      "mask": {"keep_rate": keep_rate or 0.7},
      "augment": {"policy": {"name": policy}},
      "adversary": {"name": adversary},
    }
    folder = tmp_path / name
    folder.mkdir()
    base = make.results(error=error, name=f"demo_{name}", settings=settings)
    results.write(folder / "results.json", base)
    cells = [
      {"step": k, "value": 0.1 * k - 0.2, "stderr": 0.1, "chosen": int(k == 1)} for k in range(4)
    ]
    pixels = [{"step": k, "column": k % 2, "red": 9, "green": 99, "blue": 199} for k in range(4)]
    measured = dataclasses.replace(
      base,
      metrics=(make.metric("interaction_proxy", 3 - level, 0.3, unit="", better="none"),),
      curves={
        "interactions": rows(level),
        "interaction_map": cells,
        "interaction_picture": pixels,
        "interaction_tree": TREE,
        "interaction_attack": contrast("utility", "size"),
        "interaction_outliers": contrast("average", "positive"),
      },
    )
    results.write(folder / "interactions.json", measured)
    return folder

  return do


def groups_of(folders):
  return groups.group(groups.load([str(folder) for folder in folders]))


def test_interactions_stand_beside_the_results_of_the_run(write):
  folder = write("erm")
  (run,) = groups.load(str(folder))
  assert {"error", "interaction_proxy"} <= {metric.name for metric in run.results.metrics}
  assert {"train", "interactions"} <= set(run.results.curves)
  (folder / "results.json").unlink()
  (alone,) = groups.load(str(folder))
  assert "interactions" in alone.results.curves


def test_the_page_shows_every_figure(write, tmp_path):
  rates = (0.3, 0.5, 0.7)
  folders = [write("baseline")]
  folders += [
    write(f"boost_{k}", keep_rate=rate, error=9.0 - k, level=1.2 + 0.1 * k)
    for k, rate in enumerate(rates)
  ]
  page = report.write([str(folder) for folder in folders], tmp_path / "out.html").read_text()
  for words in ("Interaction strength J", "r1 = 0.3", "M(0.2, 0.2, 0.8) and the error", "T([A])"):
    assert words in page
  assert page.count('class="band') == 4 + 3 + 3 * 4  # curves, sweep, three contrasts
  for words in ("Attacking utility", "mean interaction \u0394I", "positive share \u0394P"):
    assert words in page
  assert "data:image/png;base64" in page
  assert "permutation p" in page
  assert "interactions</h3>" not in page  # the curve is no training curve


def test_the_sweep_differs_in_the_rate_only(write):
  runs = [write("baseline"), write("a", keep_rate=0.9), write("b", keep_rate=0.5)]
  assert interactions.sweep(interactions.measured(groups_of(runs))) == []
  runs += [write("c", keep_rate=0.3), write("other", keep_rate=0.1, policy="pixmix")]
  runs += [write("at", keep_rate=0.2, adversary="at")]
  chain = interactions.sweep(interactions.measured(groups_of(runs)))
  assert [run.keep_rate for run in chain] == [0.3, 0.5, 0.9]


def test_a_sweep_is_compared_with_the_same_augmentation(write):
  runs = [write("baseline"), write("pixmix", policy="pixmix"), write("at", adversary="at")]
  runs += [write("boosted", keep_rate=0.5, policy="pixmix")]
  every = interactions.measured(groups_of(runs))
  boosted = next(run for run in every if run.keep_rate == 0.5)
  found = interactions.without_boost(boosted, every)
  assert found is not None
  assert found.settings["augment"]["policy"]["name"] == "pixmix"
  assert interactions.without_boost(boosted, [boosted]) is None


def test_a_run_with_noise_is_compared_with_the_run_without(write):
  noise, plain = write("noisy", policy="gaussian_noise", level=2.0), write("plain")
  titles = {
    f.title: f for f in interactions.collect(groups_of([plain, noise, write("p", policy="p")]))
  }
  (title,) = [title for title in titles if "change \u0394F" in title]
  assert len(titles[title].legend) == 1
  every = interactions.measured(groups_of([plain, noise]))
  ((run, rows),) = interactions.changes(every)
  assert run.settings["augment"]["policy"]["name"] == "gaussian_noise"
  assert [row["change"] for row in rows] == pytest.approx([1.0, 0, 0, 0, 0])
  other = write("other", policy="gaussian_noise", adversary="at")
  assert interactions.changes(interactions.measured(groups_of([plain, other]))) == []


def test_the_reference_is_plain(write):
  runs = [
    write("at", adversary="at"),
    write("pixmix", policy="pixmix"),
    write("boost", keep_rate=0.7),
  ]
  assert interactions.reference(interactions.measured(groups_of(runs))) is None
  found = interactions.reference(interactions.measured(groups_of([*runs, write("erm")])))
  assert found is not None
  assert found.settings["name"] == "demo_erm"


@pytest.mark.parametrize(
  "changes",
  [
    {"objective": {"name": "erm", "jsd_weight": 12.0}},
    {"objective": {"name": "erm", "reduction_weight": 0.1}},
    {"augment": {"policy": {"name": "none"}, "manifold_alpha": 2.0}},
    {"augment": {"policy": {"name": "cutout"}}},
    {"adversary": {"name": "trades"}},
    {"objective": {"name": "mixboost"}},
  ],
)
def test_a_further_term_is_not_plain(changes):
  plain = {"objective": {"name": "erm"}, "augment": {"policy": {"name": "none"}}}
  assert groups.is_plain(plain)
  assert not groups.is_plain(plain | changes)


def test_few_runs_have_no_scatter(write):
  titles = [f.title for f in interactions.collect(groups_of([write("a"), write("b")]))]
  assert not any("M(0.2" in title for title in titles)
  assert any("Interaction strength" in title for title in titles)


def test_every_figure_is_a_file_of_its_own(write, tmp_path):
  runs = [write(f"b{k}", keep_rate=0.3 + 0.1 * k, error=9.0 - k, level=1 + k) for k in range(4)]
  drawn = groups_of(runs)
  files = interactions.write(drawn, tmp_path / "svg", title="Shapes & <dots>")
  assert [file.suffix for file in files] == [".svg"] * len(interactions.collect(drawn))
  assert len(set(files)) == len(files)
  for file in files:
    root = ElementTree.fromstring(file.read_text())
    words = " ".join(root.itertext())
    assert "Shapes & <dots>" in words
    assert "var(" not in words  # colours of the page, which converters to PDF do not know
  for group in drawn:
    assert group.label in files[0].read_text()


def test_files_need_interactions(make, tmp_path):
  with pytest.raises(ValueError, match="--job=interactions"):
    interactions.write(groups.group(groups.load(make.results())), tmp_path)
