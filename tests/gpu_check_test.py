# SPDX-License-Identifier: Apache-2.0
"""The driver of `launch/gpu_check.sh`, with commands that take no time."""

import argparse
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks import adversarial_step, gpu_check, train_step
from benchmarks.gpu_check import Part
from mixboost_jax.data import cifar

ROOT = pathlib.Path(__file__).parents[1]
WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); print('wrote')"


def python(name, code, *words, files=()):
  return Part(name, ("-c", code, *words), files)


@pytest.fixture
def check(tmp_path, monkeypatch):
  """Returns `check(stages, *options)`: the exit code and what was written."""
  monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
  described = {"hardware": {"platform": "gpu"}}
  monkeypatch.setattr(gpu_check, "DESCRIBE", f"print({json.dumps(json.dumps(described))})")
  monkeypatch.setattr(gpu_check, "SHORTEST", 0.05)
  monkeypatch.setattr(gpu_check, "GRACE_SECONDS", 0.2)

  def run(parts, *options):
    stages = {name: parts.get(name, []) for name in gpu_check.stages(False, False)}
    monkeypatch.setattr(gpu_check, "stages", lambda *_: stages)
    code = gpu_check.main([f"--out={tmp_path / 'out'}", *options, "--stage", *parts])
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    return code, found

  return run


def test_a_failure_is_noted_and_does_not_stop_the_others(check, tmp_path):
  written = python(
    "b", WRITE, "{work}/b.json", f'{{{{"place": "{tmp_path}/x"}}}}', files=("b.json",)
  )
  broken = python("a", "import sys; print('so far'); sys.exit('what went wrong')")
  code, found = check({"train": [broken, written], "augment": [python("c", "print('fine')")]})
  assert code == 1
  parts = found["train"]["parts"]
  assert found["train"]["status"] == "failed"
  assert parts["a"]["status"] == "failed"
  assert parts["a"]["message"] == "what went wrong"
  assert parts["a"]["output"] == ["so far", "what went wrong"]
  assert parts["b"]["status"] == "done"
  assert parts["b"]["files"] == {"b.json": {"place": "./x"}}, "no folder of this machine"
  assert found["augment"]["status"] == "done"
  assert found["augment"]["environment"] == {"hardware": {"platform": "gpu"}}


def test_what_is_done_is_not_done_again(check, tmp_path):
  count = "import pathlib; path = pathlib.Path('n'); path.open('a').write('x'); assert not fail"
  parts = [python("a", f"fail = 0; {count}"), python("b", f"fail = 1; {count}")]
  assert check({"train": parts})[0] == 1
  assert (tmp_path / "n").read_text() == "xx"
  assert check({"train": parts})[0] == 1
  assert (tmp_path / "n").read_text() == "xxx", "the one that failed is tried again, the other not"
  parts[1] = python("b", f"fail = 0; {count}")
  code, found = check({"train": parts})
  assert code == 0
  assert found["train"]["status"] == "done"
  assert check({"train": parts})[1] == found, "nothing is left, so nothing is written"


def test_time_that_is_over_leaves_the_rest_open_and_kills_the_children(check, tmp_path):
  child = "import time; time.sleep(2.5); open('survived', 'w')"
  parts = [
    python("a", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"),
    python("b", "print('never started')"),
  ]
  begun = time.monotonic()
  code, found = check({"train": parts, "augment": parts[1:]}, "--minutes=0.02")
  assert code == gpu_check.EXIT_OPEN
  assert time.monotonic() - begun < 2.5
  assert found["train"]["status"] == found["augment"]["status"] == "open"
  assert found["train"]["parts"]["a"]["message"].startswith("stopped after")
  assert found["train"]["parts"]["b"]["message"] == "no time was left"
  time.sleep(begun + 4 - time.monotonic())
  assert not (tmp_path / "survived").exists()


def test_a_stop_takes_the_children_along_and_the_same_command_goes_on(check, tmp_path):
  wait = "import os, signal, time; time.sleep(0.5)"  # until its start is over for the parent, too
  stop = f"{wait}; os.kill(os.getppid(), signal.SIGALRM); time.sleep(3)"
  parts = [
    python("a", "open('n', 'a').write('x')"),
    python("b", f"{stop}; open('survived', 'w')"),
  ]
  before = signal.signal(signal.SIGALRM, lambda *_: sys.exit("stopped"))
  try:
    with pytest.raises(SystemExit, match="stopped"):
      check({"train": parts})
  finally:
    signal.signal(signal.SIGALRM, before)
  time.sleep(3.2)
  assert not (tmp_path / "survived").exists()
  parts[1] = python("b", "print('fine')")
  assert check({"train": parts})[0] == 0
  assert (tmp_path / "n").read_text() == "x", "what was done before the stop is not done again"


def test_a_stage_has_its_own_limit_but_the_study_takes_all_that_is_left(check, monkeypatch):
  monkeypatch.setattr(gpu_check, "STAGE_SECONDS", 0.3)
  slow = [python("a", "import time; time.sleep(0.6)")]
  code, found = check({"train": slow, "study": slow}, "--data=.", "--minutes=1")
  assert code == gpu_check.EXIT_OPEN
  assert [found[name]["status"] for name in ("train", "study")] == ["open", "done"]


def test_a_study_that_goes_on_elsewhere_finds_what_is_done(check, tmp_path):
  go_on = (
    "import pathlib, sys; folder = pathlib.Path('runs/gpu_check/t'); folder.mkdir(exist_ok=True); "
    "n = len(list(folder.glob('*.json'))); (folder / f'{{n}}.json').write_text(str(n)); "
    "sys.exit(75 if n < 1 else 0)"
  )
  parts = [python("table1", go_on, "{minutes}", files=("t/*.json",))]
  assert check({"study": parts}, "--data=.")[0] == gpu_check.EXIT_OPEN
  for path in (tmp_path / "runs").rglob("*.json"):
    path.unlink()
  code, found = check({"study": parts}, "--data=.")
  assert code == 0
  assert found["study"]["parts"]["table1"]["files"] == {"t/0.json": 0, "t/1.json": 1}


def test_what_needs_data_says_so(check):
  code, found = check({"speedrun": [python("a", "print('no')")]})
  assert code == 1
  assert "needs --data=DIR" in found["speedrun"]["parts"]["a"]["message"]


def packed(path, num_train=10, num_test=2):
  """Writes a small file of JPEG pictures; returns these as read back."""
  rng, content, pictures = np.random.default_rng(0), {}, {}
  for split, num in (("train", num_train), ("test", num_test)):
    files = []
    for _ in range(num):
      levels, file = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), io.BytesIO()
      Image.fromarray(levels).save(file, "JPEG")
      files.append(file.getvalue())
    content[f"{split}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
    content[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
    content[f"{split}_labels"] = np.arange(num, dtype=np.uint8) % 10
    pictures[split] = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
  np.savez(path, class_names=np.array(list("abcdefghij")), **content)
  return pictures


def test_a_file_of_jpeg_pictures_becomes_the_folder_that_we_read(tmp_path):
  pictures = packed(tmp_path / "small.npz")
  command = [sys.executable, ROOT / "benchmarks/jpeg_cifar.py", tmp_path / "small.npz", tmp_path]
  subprocess.run(command, check=True)
  layout = cifar.LAYOUTS["cifar10"]
  train, test, names = cifar.read(tmp_path / layout.folder, layout)
  np.testing.assert_array_equal(train.images, pictures["train"])
  np.testing.assert_array_equal(test.images, pictures["test"])
  assert train.labels.tolist() == list(range(10))
  assert "".join(names) == "abcdefghij"


def test_a_file_of_jpeg_pictures_is_unpacked_once_and_noted(check, tmp_path):
  (tmp_path / "benchmarks").mkdir()
  script = tmp_path / "benchmarks/jpeg_cifar.py"
  script.write_text((ROOT / "benchmarks/jpeg_cifar.py").read_text())
  packed(tmp_path / "small.npz")
  show = "import os, sys; print(sys.argv[2], sorted(os.listdir(sys.argv[1])))"
  parts = {"speedrun": [python("a", show, "{data}", "{note}")]}
  code, found = check(parts, f"--data={tmp_path / 'small.npz'}", "--commit=abc")
  assert code == 0
  assert found["speedrun"]["parts"]["a"]["output"] == ["JPEG ['cifar-10-batches-py']"]
  assert found["speedrun"]["environment"]["git"] == {"commit": "abc"}
  script.write_text("raise SystemExit('again')")
  assert check(parts, f"--data={tmp_path / 'small.npz'}")[0] == 0


def test_the_log_says_in_a_line_what_a_stage_found(check, tmp_path, capsys):
  parts = [python("a", "print('...'); print('3 passed')"), python("b", "print('4.2 ms')")]
  log = tmp_path / "log.json"
  check({"train": parts}, f"--log={log}")
  assert "train     done" in capsys.readouterr().out.splitlines()[-1]
  stage = json.loads(log.read_text())["stages"]["train"]
  assert stage["found"] == "a: 3 passed; b: 4.2 ms"


@pytest.mark.parametrize(
  ("worker", "words"),
  [(train_step.Worker, ()), (adversarial_step.Worker, ("mixboost",))],
)
def test_workers_of_a_benchmark_see_packages_that_were_brought(worker, words, monkeypatch):
  seen = []
  monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: seen.append(env["PYTHONPATH"]))
  monkeypatch.setattr(worker, "read", dict)
  monkeypatch.setenv("PYTHONPATH", "WHEELS")
  names = ("seconds", "compute", "model", "batch", "attack_steps", "torch_python")
  worker(argparse.Namespace(**dict.fromkeys(names, "")), "jax", *words)
  assert seen == [os.pathsep.join((str(ROOT), "WHEELS"))]


def test_without_a_gpu_one_clear_error(check, monkeypatch, tmp_path):
  monkeypatch.setattr(gpu_check, "DESCRIBE", """print('{"hardware": {"platform": "cpu"}}')""")
  with pytest.raises(SystemExit, match="finds no GPU here; --rehearse runs"):
    check({"train": []})
  monkeypatch.setattr(gpu_check, "DESCRIBE", "import no_such_package")
  with pytest.raises(SystemExit, match="No module named 'no_such_package'; wheels can be brought"):
    check({"train": []})
  with pytest.raises(SystemExit, match=r"expected a folder of \.whl files"):
    check({"train": []}, f"--wheels={tmp_path}")


@pytest.mark.parametrize("small", [False, True])
def test_every_command_exists_and_knows_its_options(small):
  known = {"data": "DATA", "note": "JPEG", "work": "WORK", "minutes": "1.0"}
  for name, parts in gpu_check.stages(small, True).items():
    assert len({part.name for part in parts}) == len(parts) > 0, name
    for part in parts:
      words = [word.format(**known) for word in part.words]
      if words[0] == "-m":
        assert words[1] in ("pytest", "mixboost_jax.main")
        places = re.findall(r"(?:configs|tests)/[\w/]+\.py", " ".join(words))
        assert places
        assert all((ROOT / place).is_file() for place in places)
        continue
      source = (ROOT / words[0]).read_text()
      options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
      assert options
      assert [option for option in options if f'"{option}"' not in source] == []


def test_a_rehearsal_has_the_same_stages_as_the_real_thing():
  real, tiny = (gpu_check.stages(small, True) for small in (False, True))
  assert list(real) == list(tiny)
  for name in real:
    programs = [{part.words[:2] for part in found[name]} for found in (real, tiny)]
    if real[name][0].words[0] == "-m":
      assert programs[0] == programs[1]
    else:
      assert {words[0] for words in programs[0]} == {words[0] for words in programs[1]}
