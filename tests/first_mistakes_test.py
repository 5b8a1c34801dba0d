# SPDX-License-Identifier: Apache-2.0
"""What somebody types wrong on the first day: the answer is short and says what to type."""

import os
import signal

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from mixboost_jax import attacks, augment, corruptions, evaluate, jobs, main, models
from mixboost_jax.runtime import platform

TINY = "--config.model.name=tiny-cnn --config.model.dropout=0 --config.train.batch_size=16"
FOLDER = f"--config=base {TINY} --config.data.name=folder --config.data.dir="
ARRAYS = f"--config=base {TINY} --config.data.name=npz --config.data.dir="
MISTAKES = {
  "": "--config is missing; start with --config=demo",
  "--confg=demo": "--confg: unknown option; did you mean --config?",
  "--config=dmo": "did you mean 'demo'?",
  "--config=cifar10:bost": "unknown bost (did you mean 'boost'?)",
  "--config=cifar10:pixmix,boost": "words are joined by +; write pixmix+boost",
  "--config=broken.py": "broken.py, line 2: SyntaxError",
  "demo": "options are written --name=value; did you mean --config=demo?",
  "--config=demo evaluate": "did you mean --job=evaluate?",
  "--config=demo --job=trian": "expected one of all, train, evaluate",
  "--config=demo --workdir": "--workdir: has no value; write --workdir=VALUE",
  "--config=demo --config.train.epoch=3": "unknown key; did you mean 'epochs'?",
  "--config=demo --config.epochs=3": "unknown key; did you mean --config.train.epochs?",
  "--config=demo --train.epochs=3": "unknown option; did you mean --config.train.epochs?",
  "--config=demo --config.train.batch_size=many": "expected an integer, got 'many'",
  "--config=demo --config.optimizer.learning_rate=-1": "expected a number > 0, got -1.0",
  "--config=base --config.augment.policy=pixmix": "name a word: --config=NAME:pixmix",
  "--config=base --config.model.name=resnet50": "Did you mean 'resnet-50'?",
  "--config=demo --config.evaluate.suite=clean,pdg": "Did you mean 'pgd'?",
  "--config=demo --config.evaluate.suite=fog": "Write 'c:fog'.",
  "--config=demo --config.evaluate.suite=c:frost": "Did you mean 'frost_procedural'?",
  "--config=demo --config.data.dir=here": "is set but not read: that needs config.data.name",
  "--config=demo --job=evaluate": "no checkpoint to evaluate; run --job=train first",
  f"{ARRAYS}right.npz --workdir=taken": "choose another --workdir",
  "--config=cifar10": "--config.data.download=True",
  "--config=cifar10 --config.data.dir=nowhere": "use a copy: python -m mixboost_jax.data.prepare",
  f"{FOLDER}flat": "expected flat/train/CLASS/FILE with flat/test/CLASS/FILE, or flat/CLASS/FILE",
  f"{FOLDER}mixed": "set config.data.image_size to resize all",
  f"{ARRAYS}few.npz": "larger than the 10 training examples of few; use a smaller one",
  f"{ARRAYS}wide.npz": "not square, as networks take them; keep a square: images[:, 0:24, 4:28]",
  f"{FOLDER}wide": "set config.data.image_size=24, which keeps the middle square",
  f"{ARRAYS}first.npz": "channels come last: images.transpose(0, 2, 3, 1)",
  f"{ARRAYS}float.npz": "(images * 255).round().astype(np.uint8)",
  f"{ARRAYS}alpha.npz": "images[..., :3]",
  "help train.epoch": "no config key 'train.epoch'; did you mean train.epochs?",
  "list config": "got 'config'; did you mean 'configs'?",
  "inspect nowhere": "nowhere: no such file or folder",
  "inspect flat/0.png": "expected a folder of pictures",
}


def picture(file, height=32, width=32):
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", (width, height)).save(file)


def arrays(file, shape, num=40, dtype=np.uint8):
  images, labels = np.zeros((num, *shape), dtype), np.arange(num) % 2
  named = {"train_images": images, "train_labels": labels}
  np.savez(file, **named, test_images=images[:20], test_labels=labels[:20])


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
  folder = tmp_path_factory.mktemp("desk")
  (folder / "broken.py").write_text("def get_config(arg=''):\n  return (\n")
  (folder / "taken").mkdir()
  (folder / "taken" / "thesis.tex").write_text("")
  for i in range(40):
    picture(folder / "flat" / f"{i}.png")
    picture(folder / "mixed" / "dog" / f"{i}.png", height=30 + i)
    picture(folder / "mixed" / "cat" / f"{i}.png")
    picture(folder / "wide" / str(i % 2) / f"{i}.png", height=24)
  arrays(folder / "right.npz", (16, 16))
  arrays(folder / "few.npz", (32, 32, 3), num=10)
  arrays(folder / "wide.npz", (24, 32, 3))
  arrays(folder / "first.npz", (3, 32, 32))
  arrays(folder / "float.npz", (32, 32, 3), dtype=np.float32)
  arrays(folder / "alpha.npz", (32, 32, 4))
  return folder


@pytest.fixture(autouse=True)
def at_the_desk(desk, monkeypatch):
  monkeypatch.chdir(desk)
  monkeypatch.setattr("pathlib.Path.home", lambda: desk / "home")
  monkeypatch.delenv("MIXBOOST_DATA_DIR", raising=False)
  for change in ("use_compile_cache", "avoid_wrong_fusions", "keep_freed_memory"):
    monkeypatch.setattr(platform, change, lambda *_: None)  # of the whole process


@pytest.mark.parametrize("typed", MISTAKES, ids=lambda typed: typed[:60] or "nothing")
def test_each_mistake_has_one_short_answer(typed, capsys, desk):
  assert main.main(typed.split()) == 2
  said = capsys.readouterr().err.replace(f"{desk}/", "")
  assert MISTAKES[typed] in said
  assert said.startswith("error: ")
  assert len(said.splitlines()) <= 6
  assert not (desk / "runs").exists()


class Classifier(nn.Module):
  @nn.compact
  def __call__(self, images):
    return nn.Dense(10)(images.reshape(len(images), -1))


IMAGES = np.full((8, 8, 8, 3), 0.5, np.float32)
LABELS = np.arange(8)
CALLS = {
  "a Linen module": (
    lambda: evaluate.evaluate(Classifier(), (IMAGES, LABELS)),
    "models.logits_fn_from_linen",
  ),
  "a Linen module to attack": (
    lambda: attacks.pgd(
      jax.random.key(0), Classifier(), IMAGES, LABELS, epsilon=0.1, step_size=0.1, num_steps=1
    ),
    "models.logits_fn_from_linen",
  ),
  "a legacy key": (
    lambda: augment.random_crop(jax.random.PRNGKey(0), IMAGES, padding=4),
    r"jax.random.key\(seed\)",
  ),
  "a seed": (
    lambda: models.create("tiny-cnn", num_classes=10, key=0),
    r"jax.random.key\(seed\)",
  ),
  "a Linen module for an NNX one": (
    lambda: models.logits_fn(Classifier()),
    r"logits_fn_from_linen\(module, variables\)",
  ),
  "rows for class numbers": (
    lambda: evaluate.evaluate(lambda images: images, (IMAGES, np.eye(8)[LABELS])),
    r"class numbers are labels.argmax\(-1\)",
  ),
  "frost": (
    lambda: corruptions.corrupt(jax.random.key(0), IMAGES, name="frost", severity=1),
    "Did you mean 'frost_procedural'",
  ),
  "a set that does not exist": (
    lambda: evaluate.evaluate(lambda images: images, "cifra10"),
    "cifra10: no such file or folder",
  ),
}


@pytest.mark.parametrize("name", CALLS)
def test_misuse_in_python_says_what_to_type(name):
  call, words = CALLS[name]
  with pytest.raises(ValueError, match=words):
    call()


def test_ctrl_c_while_data_are_read_says_how_to_go_on(monkeypatch, capfd, tmp_path):
  monkeypatch.setattr(
    jobs.prepared, "load_data", lambda settings: os.kill(os.getpid(), signal.SIGINT)
  )
  assert main.main(["--config=demo:smoke", f"--workdir={tmp_path / 'run'}"]) == 75
  said = capfd.readouterr().err
  assert "SIGINT: saving and leaving; once more to leave at once." in said
  assert said.endswith("what is finished is kept. The same command goes on.\n")
  assert not (tmp_path / "run").exists()
