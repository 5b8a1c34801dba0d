# SPDX-License-Identifier: Apache-2.0
"""Numbers of README.md and docs/*.md, written between markers from files under results/.

python -m docs.tables

```text
<!-- results:demo metrics=error -->     a table of runs, see `mixboost_jax.report.readme`
<!-- table:peers -->                    one of `TABLES` below
<!-- number:FILE.json a.b.0 .2f -->     one number of results/FILE.json, inside a line
<!-- versions -->                       the versions that were tested
```

Each ends with the marker of the same name after a slash. Sphinx fills them anew in each build; a
test says if what is committed differs.
"""

import functools
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import versions
from mixboost_jax import corruptions, files
from mixboost_jax.report import groups, readme
from mixboost_jax.report import tables as standard

ROOT = pathlib.Path(__file__).resolve().parents[1]
MADE = ("_build", "api", "gallery")
"""Folders of docs/ that Sphinx fills."""
PAGES = (
  ROOT / "README.md",
  *(p for p in sorted((ROOT / "docs").rglob("*.md")) if not {*p.relative_to(ROOT).parts} & {*MADE}),
)
_TABLE = re.compile(r"(?P<open><!-- table:(?P<name>\w+) -->\n).*?(?P<close><!-- /table -->)", re.S)
_NUMBER = re.compile(
  r"(?P<open><!-- number:(?P<file>\S+) (?P<path>\S+) (?P<form>\S+) -->)"
  r".*?(?P<close><!-- /number -->)",
  re.S,
)
_OPEN = re.compile(r"<!-- (?:table|number):")


def filled(text: str, *, place: str) -> str:
  """Returns a page with the numbers of the committed results.

  Raises:
    ValueError: if a marker is malformed, not closed, or names what there is not.
  """
  if re.search(r"^ *<!-- number:", text, re.M):
    raise ValueError(f"{place}: a number cannot begin a line, Markdown takes that for HTML.")
  found = len(_TABLE.findall(text)) + len(_NUMBER.findall(text))
  if found != len(_OPEN.findall(text)):
    raise ValueError(f"{place}: a marker <!-- table: or <!-- number: is malformed or not closed.")
  text = _TABLE.sub(lambda m: f"{m['open']}{_table(m['name'], place)}\n{m['close']}", text)
  text = _NUMBER.sub(lambda m: f"{m['open']}{_number(m, place)}{m['close']}", text)
  if "<!-- versions -->" in text:
    text = versions.fill(text, json.loads(versions.LOG.read_text(encoding="utf-8")))
  return readme.fill(text, _runs(), place=place) if "<!-- results:" in text else text


def setup(app: Any) -> None:
  """Fills pages as Sphinx reads them."""
  app.connect("source-read", _fill)


def _fill(app: Any, name: str, source: list[str]) -> None:
  del app
  if "<!-- /" in source[0]:
    source[0] = filled(source[0], place=f"docs/{name}.md")


@functools.cache
def _runs() -> list[groups.Run]:
  kept = (*(ROOT / "results").glob("*.json"), *(ROOT / "results/studies").rglob("*.json"))
  return groups.load(sorted(kept))


@functools.cache
def read(name: str) -> Any:
  """Returns what results/benchmarks/NAME.json holds."""
  return json.loads((ROOT / f"results/benchmarks/{name}.json").read_text(encoding="utf-8"))


def _number(match: re.Match[str], place: str) -> str:
  found: Any = json.loads((ROOT / "results" / match["file"]).read_text(encoding="utf-8"))
  for part in match["path"].split("."):
    try:
      found = found[int(part) if isinstance(found, list) else part]
    except (KeyError, IndexError, ValueError):
      raise ValueError(f"{place}: {match['file']} has no {match['path']}.") from None
  return format(found, match["form"])


def _table(name: str, place: str) -> str:
  if name not in TABLES:
    raise ValueError(f"{place}: no table {name!r}; there are {', '.join(TABLES)}.")
  header, rows = TABLES[name]()
  return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


Rows = tuple[Sequence[str], list[list[str]]]
POLICIES = {
  "trivial_augment_wide": "TrivialAugment",
  "randaugment": "RandAugment",
  "autoaugment": "AutoAugment",
  "augmix": "AugMix",
  "pixmix": "PixMix",
}


def _where(entry: Mapping[str, Any]) -> str:
  """Returns what a benchmark ran on, as far as its file says so."""
  environment = entry.get("environment", {})
  hardware = environment.get("hardware", environment)
  cores, cpu = hardware.get("cores", entry.get("cores")), hardware.get("cpu", "")
  return f"{cores} cores{f' ({cpu})' if cpu else ''}, {entry.get('date', 'no date')}"


def step_time() -> Rows:
  """A training step against PyTorch eager."""
  facts = read("train_step_cpu")["derived"]
  rows = []
  for one, two in zip(facts[::2], facts[1::2], strict=True):
    assert one["model"] == two["model"]
    numbers = one["ours_over_torch"], two["ours_over_torch"], two["two_views_over_one"]
    rows.append([f"{one['model'].upper()}, {one['batch']}", *(f"{x:.2f}" for x in numbers)])
  return ("network, batch", "one view", "two views", "two views over one"), rows


def augmentation() -> Rows:
  """Augmentations against Pillow in two processes."""
  rows: dict[str, list[str]] = {}
  for row in read("augment_cpu2")["rows"]:
    cells = [f"{row['images_per_s']:,}", f"{row['ratio']:.2f}"]
    rows.setdefault(row["policy"], [POLICIES[row["policy"]]]).extend(cells)
  header = [f"{what} at {size} px" for size in (32, 224) for what in ("images/s", "over Pillow")]
  return ("policy", *header), list(rows.values())


def peers() -> Rows:
  """Ratios of speeds against other packages."""
  evaluation, mixup = read("evaluation_cpu2"), read("mixup_inference")
  made = evaluation["corruptions"]
  adversarial = {fact["method"]: fact for fact in read("adversarial_step_cpu")["derived"]}
  streams = read("input_pipeline_cpu")["ways"]
  slowest = min(row["ratio"] for row in made["by_name"].values())
  entries = [
    ("masked forwards for interactions, WRN-10-1", "PyTorch, channels-last", "interaction_rate",
     read("interaction_rate")["ratio"]["channels_last"]),
    ("Mixup Inference, N = 30, WRN-16-2", "the public per-image loop in PyTorch",
     "mixup_inference", mixup["speedup_over_loop"]),
    ("", "the same, batched", "mixup_inference", mixup["speedup_over_batched"]),
    (f"making -C, {len(made['by_name'])} corruptions, 5 severities", "the authors' scripts",
     "evaluation_cpu2", made["ratio_of_sums"]),
    ("", "the slowest corruption by itself", "evaluation_cpu2", slowest),
    ("PGD-20, WRN-16-2, built-in layers", "foolbox", "evaluation_cpu2",
     evaluation["pgd_20"]["ratio"]),
    ("", "foolbox; ours with plain `jax.lax` convolutions", "evaluation_cpu2",
     evaluation["pgd_20_plain_convolutions"]["ratio"]),
    (f"AutoAttack, three convolutions, {evaluation['autoattack']['pictures']} pictures",
     "the original package", "evaluation_cpu2", evaluation["autoattack"]["ratio"]),
    ("streaming JPEGs, crops of 224 px", "Pillow in as many processes", "input_pipeline_cpu",
     1 / streams["PIL in processes"]["over_ours"]),
    ("", "Grain, as many processes", "input_pipeline_cpu",
     1 / streams["Grain, processes"]["over_ours"]),
    ("", "Grain, as many threads", "input_pipeline_cpu",
     1 / streams["Grain, threads"]["over_ours"]),
    ("AT step, WRN-16-2, PGD-10", "PyTorch eager", "adversarial_step_cpu",
     1 / adversarial["at"]["ours_over_torch"]),
    ("IAT step", "PyTorch eager", "adversarial_step_cpu",
     1 / adversarial["iat"]["ours_over_torch"]),
  ]  # fmt: skip
  rows = [
    [what, peer, f"{x:.1f}" if x >= 10 else f"{x:.2f}", f"`{file}.json`"]
    for what, peer, file, x in entries
  ]
  return ("what", "against", "ratio", "file"), rows


def machines() -> Rows:
  """What each benchmark of the other tables ran on."""
  names = ("train_step_cpu", "augment_cpu2", "interaction_rate", "mixup_inference")
  names += ("evaluation_cpu2", "input_pipeline_cpu", "adversarial_step_cpu")
  rows = [[f"`{n}.json`", _where(read(n)), f"`{_command(read(n))}`"] for n in names]
  return ("file", "measured on", "command"), rows


def _command(entry: Mapping[str, Any]) -> str:
  return entry.get("command", "").split(" --robustness")[0]


def learned_baselines() -> Rows:
  """Accuracy of learned baseline values; the last row of each loss is the paper's."""
  paper = {"shapley": (98.06, 98.70, 98.70), "marginal": (98.06, 98.14, 98.14)}
  files_of = {"0.01": "learned_baselines", "0.1": "learned_baselines_rate_0.1"}
  rows = []
  for loss, theirs in paper.items():
    for rate, file in files_of.items():
      percent = read(file)["released"][loss]["percent"]
      rows.append([f"L_{loss}, ours, rate {rate}", *(f"{p:.2f}" for p in percent)])
    rows.append([f"L_{loss}, Ren et al.", *(f"{p:.2f}" for p in theirs)])
  return ("", "0", "0.5", "1"), rows


def saved() -> Rows:
  """Evaluations of the public protocol over those of ours, at equal error of J^(m)."""
  rows = []
  for pairs in ("neighbour", "uniform"):
    found = read("interaction_cost")[pairs]["mean_square_error_times_cost"]
    low, high = found["interval_95"]
    rows.append([pairs, f"{found['ratio']:.1f}", f"{low:.0f} to {high:.0f}"])
  return ("pairs", "times fewer evaluations", "95 % interval"), rows


def bands() -> Rows:
  """What the boost changes in J of low, middle and high orders, pair by pair."""
  found = read("../interactions/summary")["long_rope"]
  rows = []
  for band in ("low", "middle", "high"):
    pairs = [(p["boost"][band], p["without"][band]) for p in found["pairs"].values()]
    rises = sum(boost > without for boost, without in pairs)
    rows.append([band, f"{found['mean_change'][band]:+.2f}", f"{rises} of {len(pairs)}"])
  return ("orders", "mean change of J with the boost", "pairs in which it rises"), rows


def confidence() -> Rows:
  """How sure the networks of Table I are of clean test pictures, against how right they are."""
  found = groups.group([run for run in _runs() if run.results.name.startswith("table1_")])
  rows = []
  for group in found:
    for run in group.runs:
      curves = run.results.curves
      (name,) = (name for name in curves if name.startswith("reliability/"))
      bins = [one for one in curves[name] if one["count"]]
      count = sum(one["count"] for one in bins)
      sure, right = (
        sum(one["count"] * one[field] for one in bins) / count
        for field in ("confidence", "accuracy")
      )
      learnt = curves["train"][-1]["accuracy"]
      numbers = [f"{100 * one:.1f}" for one in (learnt, right, sure)]
      label = group.label + (f", seed {run.seed}" if len(group.runs) > 1 else "")
      rows.append([label, *numbers, f"{100 * (sure - right):+.1f}"])
  header = ("run", "right on changed training pictures", "right on test pictures", "sure of", "gap")
  return header, rows


def table1() -> Rows:
  """Table I of MixBoost without its intervals."""
  found = groups.group([run for run in _runs() if run.results.name.startswith("table1_")])
  keys = groups.metric_ids(found)
  ((dataset, split),) = standard.bases(keys)
  columns = {
    standard.column_title(column, dataset): standard.column_key(column, dataset, split, keys)
    for column in standard.STANDARD
  }
  rows = []
  for group in found:
    values = [key and group.value(key) for key in columns.values()]
    rows.append([group.label, *(f"{one.mean:.1f}" if one else standard.NOT_RUN for one in values)])
  return ("%", *columns), sorted(rows)


def proxy() -> Rows:
  """How M goes with the errors over the networks of the short runs."""
  found = read("../interactions/summary")["correlations"]
  rows = [[f"{name}", f"{one['r']:.2f}", f"{one['p_value']:.2f}"]
          for name, one in found["M(0.2, 0.2, 0.8)"].items()]  # fmt: skip
  return ("error", f"Pearson r with M, {found['models']} networks", "p (permutations)"), rows


def autoattack() -> Rows:
  """AutoAttack here and in the original package, on the same network and pictures."""
  rows = []
  for classes, found in read("autoattack_agreement")["classes"].items():
    ours, peer = found["ours"]["square"], found["peer"]["robust"]
    cells = [classes, str(found["images"]), f"{100 * ours:.2f}", f"{100 * peer:.2f}"]
    rows.append([*cells, str(found["images_that_differ"])])
  header = ("classes", "pictures", "robust, ours (%)", "robust, original (%)", "pictures differ")
  return header, rows


def agreement() -> Rows:
  """How many corruptions and films agree with the authors' code."""
  tables = read("corruption_agreement")["tables"]
  counted = {f"corruptions, {name.replace('cifar', '32 px').replace('imagenet', '224 px')}": found
             for name, found in tables.items()}  # fmt: skip
  counted["films of CIFAR-10-P"] = read("sequence_agreement")["films"]
  stand_in = corruptions.BENCHMARK_NAMES
  rows = []
  for what, found in counted.items():
    agree = sum(row["agrees"] for row in found.values())
    only = sorted({n for n in found if n.partition("_2")[0] in stand_in})
    rows.append([what, str(len(found)), str(agree), ", ".join(f"`{n}`" for n in only)])
  return ("what", "compared", "agree", "of these only stand in"), rows


def compiled() -> Rows:
  """What the compilers make of our programs, per chip and step; old -> new where both are known."""
  rows = []
  for name, cell in read("compiled_programs")["cells"].items():
    chip, *program = name.split("/")
    if chip == "scaling" or "program" not in cell:
      continue
    new, old = cell["program"], cell.get("before") or cell["program"]

    def both(of: Callable[[Any], float], form: str, old: Any = old, new: Any = new) -> str:
      before, after = (format(of(found), form) for found in (old, new))
      return after if before == after else f"{before} → {after}"

    cycles = lambda found: found.get("cycles", 0) / 1e6  # noqa: E731
    rows.append(
      [
        chip,
        " ".join(program),
        f"{cell['images']:,}",
        both(lambda found: found["bytes"] / 1e9, ".2f"),
        both(lambda found: found["kernels"], ",d"),
        both(lambda found: found["gathers"] + found["scatters"], "d"),
        both(lambda found: found["loops"], "d"),
        f"{1e3 * cell['seconds']:.2f}",
        both(cycles, ".1f") if cycles(new) else "",
      ]
    )
  header = ("chip", "program", "pictures", "GB", "kernels", "gathers and scatters")
  return (*header, "loops", "bound, ms", "million cycles"), rows


def scaling() -> Rows:
  """Training on 1 to N chips, as compiled."""
  rows = []
  for row in read("scaling")["rows"]:
    parts = row["seconds_by_part"]
    rows.append(
      [
        row["chip"],
        row["model"],
        f"{row['batch']}, {row['per_chip']:,} a chip",
        str(row["chips"]),
        f"{row['memory'] / 2**30:.1f}" + ("" if row["fits"] else " (too much)"),
        f"{1e3 * row['seconds']:.2f}",
        f"{1e3 * parts['exchange']:.2f}",
        f"{row['exchanged_bytes'] / 1e6:.1f}",
        f"{row['images_per_second']:,.0f}",
        f"{100 * row['efficiency']:.0f} %" if row["fits"] else "",
      ]
    )
  header = ("chip", "network", "batch", "chips", "GiB", "step, ms", "of it exchange, ms")
  return (*header, "MB exchanged", "images/s", "efficiency"), rows


def headline() -> Rows:
  """What README shows on its first screen."""
  made, auto = read("evaluation_cpu2"), read("autoattack_agreement")["classes"]
  cost = {pairs: read("interaction_cost")[pairs] for pairs in ("neighbour", "uniform")}
  saved = [found["mean_square_error_times_cost"]["ratio"] for found in cost.values()]
  ten = auto["10"]
  pictures = sum(found["images"] for found in auto.values())
  apart = sum(found["images_that_differ"] for found in auto.values())
  corrupted = made["corruptions"]
  tables = read("corruption_agreement")["tables"].values()
  agree = sum(row["agrees"] for table in tables for row in table.values())
  compared = sum(len(table) for table in tables)
  shap = max(max(g["shapley_values"], g["shapley_interaction_index"])
             for g in read("interaction_agreement")["largest_absolute_difference"])  # fmt: skip
  rows = [
    ["-C and C̄", "the authors' code", f"{agree} of {compared} corruptions agree, "
     f"{corrupted['ratio_of_sums']:.0f} times as fast on two CPU cores"],
    ["AutoAttack", "the original package",
     f"{100 * ten['ours']['square']:.2f} against {100 * ten['peer']['robust']:.2f} % robust (ten "
     f"classes); {apart} of {pictures} pictures differ (ten to two)"],
    ["J^(m), all orders", "the public protocol",
     f"{saved[0]:.1f} to {saved[1]:.1f} times fewer evaluations at equal error"],
    ["Shapley values", "shapiq", f"differ by at most {shap:.0e}"],
    ["step, WRN-40-4", "PyTorch eager",
     f"{read('train_step_cpu')['derived'][3]['ours_over_torch']:.2f} times as long on two CPU "
     "cores; GPU and TPU: not measured"],
  ]  # fmt: skip
  return ("what", "compared with", "measured"), rows


TABLES: dict[str, Callable[[], Rows]] = {
  function.__name__: function
  for function in (
    step_time, augmentation, peers, machines, saved, bands, confidence, table1, proxy,
    learned_baselines, autoattack, agreement, compiled, scaling, headline
  )
}  # fmt: skip


def main() -> None:
  """Fills every page and says which changed."""
  for page in PAGES:
    text = page.read_text(encoding="utf-8")
    new = filled(text, place=str(page.relative_to(ROOT)))
    if new != text:
      files.write_text(page, new)
      print(f"filled {page.relative_to(ROOT)}")


if __name__ == "__main__":
  main()
