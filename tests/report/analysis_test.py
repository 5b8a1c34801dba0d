# SPDX-License-Identifier: Apache-2.0
"""Risk over the probability of an augmentation: which runs make a line, and what it shows."""

import re

from mixboost_jax.report import analysis, groups


def gated(p, name="mixup"):
  return {"name": "with_probability", "p": p, "policy": {"name": name}, "per": "batch"}


def classical(p):
  return {"name": "compose", "steps": [gated(p, "random_crop"), gated(p, "random_flip")]}


def figures_of(make, policies):
  """One run for each (policy, seed, error)."""
  sources = []
  for i, (policy, seed, error) in enumerate(policies):
    settings = {**make.settings(seed=seed), "augment": {"policy": policy}}
    sources.append(make.results(error=error, name=f"run{i}", settings=settings))
  return analysis.collect(groups.group(groups.load(sources)))


def test_lines_over_p(make):
  none = {"name": "none"}
  several = [(none, 0, 10.0), (none, 1, 12.0), (gated(0.5), 0, 6.0), (gated(1.0), 0, 8.0)]
  (figure,) = figures_of(make, [*several, (classical(1.0), 0, 4.0), (gated(1.0), 1, 8.0)])
  assert "over the probability of augmentation" in figure.title
  assert [label for label, _ in figure.legend] == ["Mixup", "random crop + random flip"]
  (words,) = re.findall('aria-label="([^"]*)"', figure.chart)
  assert "Mixup: 11 at 0, 8 at 1" in words
  assert "random crop + random flip: 11 at 0, 4 at 1" in words


def test_other_runs_make_no_line(make):
  mixed = {"name": "compose", "steps": [gated(0.2, "random_crop"), gated(0.4, "random_flip")]}
  assert figures_of(make, [({"name": "none"}, 0, 10.0), (mixed, 0, 9.0)]) == []
  assert figures_of(make, [(gated(0.5), 0, 9.0)]) == []
