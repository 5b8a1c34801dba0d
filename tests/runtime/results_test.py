# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import math
import os
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.runtime import results


def metric(**changes):
  fields = {
    "name": "error",
    "value": 5.5,
    "low": 5.0,
    "high": 6.1,
    "confidence": 0.95,
    "interval": "wilson",
    "count": 10_000,
    "unit": "%",
    "better": "lower",
    "dataset": "cifar10",
    "split": "test",
    "source": "files",
  }
  return results.Metric(**(fields | changes))


def example(**changes):
  fields = {
    "name": "cifar10",
    "settings": {"seed": 0, "mask": {"grid": 16}},
    "config_hash": "0123456789ab",
    "environment": {"versions": {"jax": "0.10.2"}},
    "command": "python -m mixboost_jax.main --config=configs/cifar10.py",
    "started": "2026-01-01T00:00:00+00:00",
    "seconds": {"train": 12.5, "evaluate": 1},
    "metrics": (metric(), metric(name="ece", low=None, high=None, confidence=None)),
    "curves": {"train": [{"step": 10, "loss": 2.25}, {"step": 20, "loss": None}]},
    "samples": {"clean": "samples/clean.png"},
  }
  return results.Results(**(fields | changes))


def test_round_trip(tmp_path):
  results.write(tmp_path / "results.json", example())
  assert results.read(tmp_path / "results.json") == example()
  assert os.listdir(tmp_path) == ["results.json"]


def test_numbers_of_numpy_and_jax_become_plain(tmp_path):
  curve = [{"step": np.int64(3), "loss": jnp.float32(0.1), "rate": np.float32(np.nan)}]
  results.write(tmp_path / "r.json", example(curves={"train": curve}))
  point = results.read(tmp_path / "r.json").curves["train"][0]
  assert point == {"step": 3, "loss": float(np.float32(0.1)), "rate": None}


def test_undefined_values_are_null_in_the_file_and_nan_in_memory(tmp_path):
  path = tmp_path / "r.json"
  results.write(path, example(metrics=(metric(value=math.nan), metric(value=math.inf))))
  json.loads(path.read_text(), parse_constant=pytest.fail)  # strict JSON
  assert all(math.isnan(m.value) for m in results.read(path).metrics)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: t.update(schema_version=2), "schema version 2, but this version of mixboost_jax"),
    (lambda t: t.pop("schema_version"), "not a results file"),
    (lambda t: t.pop("metrics"), "metrics: missing"),
    (lambda t: t.update(extra=1), "extra: unknown key"),
    (lambda t: t.update(name=3), "name: expected text, got 3"),
    (lambda t: t.update(curves=[]), "curves: expected a mapping"),
    (lambda t: t["seconds"].update(train=-1), r"seconds\.train: expected a number >= 0, got -1"),
    (lambda t: t["metrics"].append("x"), r"metrics\[2\]: expected a mapping"),
    (lambda t: t["metrics"][0].pop("unit"), r"metrics\[0\]\.unit: missing"),
    (lambda t: t["metrics"][0].update(value="5"), r"metrics\[0\]\.value: expected a number or nul"),
    (lambda t: t["metrics"][0].update(low=7.0), r"metrics\[0\]\.low, high: expected low <= high"),
    (lambda t: t["metrics"][0].update(low=None), "expected low <= high or neither"),
    (lambda t: t["metrics"][0].update(confidence=95.0), r"confidence: expected a number in \(0, 1"),
    (lambda t: t["metrics"][0].update(count=1.5), "count: expected an integer >= 0, got 1.5"),
    (lambda t: t["metrics"][0].update(count=-1), "count: expected an integer >= 0, got -1"),
    (lambda t: t["metrics"][0].update(better="up"), "better: expected one of lower, higher, none"),
    (lambda t: t["curves"].update(train=1), r"curves\.train: expected a list of points"),
    (lambda t: t["curves"]["train"].append({"loss": 1.0}), r"curves\.train\[2\]: expected"),
    (lambda t: t["curves"]["train"][1].update(loss="x"), r"curves\.train\[1\]\.loss: expected a n"),
    (lambda t: t["samples"].update(blurred="a.png"), r"samples\.blurred: unknown kind"),
    (lambda t: t["samples"].update(clean="/etc/a.png"), r"samples\.clean: expected a path inside"),
    (lambda t: t["samples"].update(clean="../a.png"), r"samples\.clean: expected a path inside"),
  ],
)
def test_one_clear_error_per_broken_file(tmp_path, change, message):
  path = tmp_path / "r.json"
  results.write(path, example())
  tree = json.loads(path.read_text())
  change(tree)
  path.write_text(json.dumps(tree))
  with pytest.raises(results.ResultsError, match=message):
    results.read(path)


def test_lists_all_problems_at_once_and_writes_nothing(tmp_path):
  broken = example(samples={"clean": ""}, metrics=(metric(better="up"), metric(count=-3)))
  with pytest.raises(results.ResultsError, match="3 problems") as info:
    results.write(tmp_path / "r.json", broken)
  assert str(info.value).count("\n  - ") == 3
  assert os.listdir(tmp_path) == []


HUGE = 10**400


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: t["metrics"][0].update(value=HUGE), r"metrics\[0\]\.value: .* got 10+\.\.\."),
    (lambda t: t["metrics"][0].update(value=math.inf), r"metrics\[0\]\.value: .* got inf"),
    (lambda t: t["metrics"][0].update(high=math.nan), r"metrics\[0\]\.high: .* got nan"),
    (lambda t: t["metrics"][0].update(count=HUGE), r"metrics\[0\]\.count: expected an integer"),
    (lambda t: t["seconds"].update(train=HUGE), r"seconds\.train: expected a number >= 0"),
    (lambda t: t["curves"]["train"][0].update(step=HUGE), r"curves\.train\[0\]: expected"),
    (lambda t: t["curves"]["train"][0].update(loss=-HUGE), r"curves\.train\[0\]\.loss: expected"),
    (lambda t: t.update(name="\ud800"), r"results\.name: expected text in Unicode, got '.ud800'"),
    (lambda t: t["settings"].update({"\udcff": 1}), r"settings: key: expected text in Unicode"),
    (
      lambda t: t["settings"].update(a=nested(60)),
      r"not a JSON file .*at most 50 lists or mappings",
    ),
    (lambda t: t.update(metrics=[1] * 100), r"100 problems:[\s\S]*and 80 more$"),
    (lambda t: t.update(name=["x" * 10**6]), r"name: expected text, got .{80}$"),
  ],
)
def test_what_no_report_could_show_is_refused(tmp_path, change, message):
  path = tmp_path / "r.json"
  results.write(path, example())
  tree = json.loads(path.read_text())
  change(tree)
  path.write_text(json.dumps(tree))
  with pytest.raises(results.ResultsError, match=message):
    results.read(path)


def nested(levels):
  tree = 1
  for _ in range(levels):
    tree = [tree]
  return tree


def test_bytes_of_a_command_line_that_are_no_text_are_written_as_escapes(tmp_path):
  results.write(tmp_path / "r.json", example(command="--workdir=caf\udce9"))
  assert results.read(tmp_path / "r.json").command == "--workdir=caf\\udce9"


def test_numbers_that_float64_cannot_hold_are_not_written(tmp_path):
  with pytest.raises(results.ResultsError, match=r"metrics\[0\]\.value: expected a number"):
    results.write(tmp_path / "r.json", example(metrics=(metric(value=HUGE),)))


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "r.json")
  with pytest.raises(results.ResultsError, match=r"r\.json: not a JSON file .*regular file"):
    results.read(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["[" * 10**5, '{"schema_version": 1, "a":' * 10**5, b"\xff\xfe{}"])
def test_text_that_python_cannot_parse(tmp_path, text):
  (tmp_path / "r.json").write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(results.ResultsError, match=r"r\.json: not a JSON file"):
    results.read(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["", '{"schema_version": 1, "na', "[1]"])
def test_unreadable_files(tmp_path, text):
  (tmp_path / "r.json").write_text(text)
  with pytest.raises(results.ResultsError, match=r"r\.json"):
    results.read(tmp_path / "r.json")


def test_missing_file(tmp_path):
  with pytest.raises(results.ResultsError, match=r"cannot read results .*No such file"):
    results.read(tmp_path / "r.json")


def test_metrics_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    metric().value = 0.0  # pyright: ignore[reportAttributeAccessIssue]


MANY = (
  metric(),
  metric(name="rms_calibration_error", value=1.25, low=None, high=None),
  metric(name="mce", value=30.0, dataset="cifar10 (JPEG-90)-c", unit="%"),
  metric(name="error:fog", value=40.0, dataset="cifar10-c"),
  metric(name="auroc_msp", value=0.875, low=0.8, high=0.9, unit="", dataset="cifar10-ood-blobs"),
)
AUDITED = metric(name="audit/mi-OL/worst-case", value=12.0)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("clean error", 5.5),
    ("Clean RMS calibration-error", 1.25),
    ("c mce", 30.0),
    ("mce", 30.0),
    ("c error:fog", 40.0),
    ("ood blobs auroc msp", 0.875),
  ],
)
def test_a_metric_by_its_key(name, value):
  found = example(metrics=MANY)
  assert found[name].value == value
  assert len(dict(found)) == len(MANY)


def test_a_metric_of_an_audit_by_its_name():
  found = example(metrics=(*MANY, AUDITED))
  assert found["audit/mi-OL/worst-case"].value == 12
  assert list(found)[-1] == "audit/mi-OL/worst-case"


def test_an_unknown_key_names_the_nearest():
  with pytest.raises(KeyError, match="'clean eror': no such metric; there is 'clean error'"):
    example(metrics=MANY)["clean eror"]
  with pytest.raises(KeyError, match="there is 'clean error', 'clean rms"):
    example(metrics=MANY)["zzz"]


def test_results_show_themselves():
  found = example(metrics=MANY, flags=(results.Flag("x", "red", "a < b", "y"),))
  assert found.table().splitlines() == [
    "clean error                  5.50 % [5.00, 6.10]  (n = 10,000)",
    "clean rms calibration error  1.25 %  (n = 10,000)",
    "c mce                        30.00 % [5.00, 6.10]  (n = 10,000)",
    "ood blobs auroc msp          0.875 [0.800, 0.900]  (n = 10,000)",
  ]
  assert "c error:fog" in found.table(members=True)
  assert repr(found) == (
    "Results('cifar10': clean error 5.50 % [5.00, 6.10] on 10,000 test pictures; "
    "5 metrics, 1 flags)"
  )
  page = found._repr_html_()
  assert "5.50 % [5.00, 6.10]" in page
  assert "a &lt; b" in page
  assert "nothing was measured" in repr(example(metrics=()))


def test_a_data_frame_has_a_row_per_metric(monkeypatch):
  class DataFrame(list):
    def __init__(self, rows, index):
      super().__init__(zip(index, rows, strict=True))

  monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=DataFrame))
  frame = example(metrics=MANY).to_dataframe()
  assert [key for key, _ in frame][:2] == ["clean error", "clean rms calibration error"]
  assert frame[0][1]["interval"] == "wilson"
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(ImportError, match="pip install pandas"):
    example().to_dataframe()
