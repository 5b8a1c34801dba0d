# SPDX-License-Identifier: Apache-2.0
"""`--job=gan`: trains a label-conditional GAN; grids of pictures and a proxy-FID along the way.

```text
samples/gan_00001200.png   a row per class, after 1,200 updates; the same draws every time
metrics.jsonl              losses, and `gan/proxy_fid`, `gan/proxy_kid` where the grids are made
reference.npz              features of real pictures that both compare with
gan.json                   a results file: the last numbers, and their curve
```

With `gan.features`, the folder of a trained classifier, made pictures are compared with real ones
by its penultimate features. That is no FID: Inception's features are not used, so the numbers
compare runs with the same `gan.features` only, and are called proxies everywhere.
"""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from mixboost_jax import data, files, metrics, models, train
from mixboost_jax.data import arrays
from mixboost_jax.jobs import prepared
from mixboost_jax.runtime import checkpoint, interrupt, log, results, workdir, writers
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.results import Clock, Metric, Results
from mixboost_jax.schema import Settings
from mixboost_jax.train import gan, generated
from mixboost_jax.train.build import create_model
from mixboost_jax.train.loop import steps_of

FILE, REFERENCE_FILE = "gan.json", "reference.npz"
MAX_REAL = 10_000
"""Training pictures that the reference file holds the features of, at most."""
_CHUNK = 200
"""Pictures per call of the feature network."""
_GAP = 2  # white pixels between two rows of a grid

Compare = Callable[[UInt8[np.ndarray, "N H W C"]], dict[str, float]]
"""Made pictures, as levels -> the proxies."""


@dataclasses.dataclass(frozen=True)
class Judge:
  """A trained classifier whose penultimate features tell made pictures from real ones."""

  features_fn: Callable[[jax.Array], jax.Array]
  name: str
  """Which network, for the record."""
  shape: tuple[int, int, int]
  """Of the pictures that it takes."""

  def check(self, dataset: data.Dataset) -> None:
    """Raises ValueError if the classifier takes other pictures."""
    if self.shape != dataset.image_shape:
      raise ValueError(
        f"config.gan.features: {self.name} takes pictures {list(self.shape)}, but {dataset.title} "
        f"has {list(dataset.image_shape)}; give a run on pictures of that shape."
      )

  def features(self, levels: UInt8[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N D"]:
    """Returns the features of pictures, on the host."""
    missing = -len(levels) % _CHUNK
    padded = np.pad(levels, ((0, missing), (0, 0), (0, 0), (0, 0)))
    parts = padded.reshape(-1, _CHUNK, *levels.shape[1:])
    found = [np.asarray(_features(self.features_fn, part)) for part in parts]
    return np.concatenate(found)[: len(levels)]

  def compare_with(self, path: pathlib.Path, split: data.Split) -> Compare:
    """Returns what measures made pictures against a reference file, which is made if missing."""
    if path.exists():
      real = read_reference(path, name=self.name)
    else:
      real = self.features(_some(split))
      if log.is_primary():
        write_reference(path, real, name=self.name)
    moments = metrics.feature_moments(real)

    def compare(levels: UInt8[np.ndarray, "N H W C"]) -> dict[str, float]:
      made = self.features(levels)
      kernel = metrics.kernel_distance(made, real)
      return {
        "proxy_fid": metrics.frechet_distance(metrics.feature_moments(made), moments),
        "proxy_kid": kernel.value,
        "proxy_kid_stderr": kernel.stderr,
      }

    return compare


def open_judge(settings: Settings) -> Judge:
  """Opens the run folder `config.gan.features`."""
  from mixboost_jax.configs import base  # pyright: ignore[reportAttributeAccessIssue]

  folder = settings.gan.features
  trained = prepared.load_trained(folder, data_dir=settings.data.dir, defaults=base.get_config())
  network, logits_fn = create_model(trained.settings, trained.dataset), trained.logits_fn
  assert isinstance(logits_fn, jax.tree_util.Partial)
  features_fn = models.features_fn(models.merge(network, *logits_fn.args))
  name = f"{trained.settings.model.name} at step {trained.step} of {trained.settings.name}"
  return Judge(features_fn, name, trained.dataset.image_shape)


@jax.jit
def _features(features_fn: Any, levels: jax.Array) -> jax.Array:
  return features_fn(levels.astype(jnp.float32) / 255)


def _some(split: data.Split) -> np.ndarray:
  """At most `MAX_REAL` pictures in random order, always the same."""
  chosen = np.random.default_rng(0).permutation(len(split))[:MAX_REAL]
  return np.asarray(split.images[chosen])


def write_reference(path: pathlib.Path, features: Float[np.ndarray, "N D"], *, name: str) -> None:
  """Writes the features of real pictures, and the network that they are of."""
  buffer = io.BytesIO()
  np.savez(buffer, features=features, network=np.array(name))
  files.write_bytes(path, buffer.getvalue())


def read_reference(path: pathlib.Path, *, name: str) -> Float[np.ndarray, "N D"]:
  """Reads such a file.

  Raises:
    ValueError: if it cannot be read, or holds features of another network.
  """
  stored = arrays.read_npz(path)
  wrong = {"features", "network"} - stored.keys()
  if wrong or stored["features"].ndim != 2:
    raise ValueError(
      f"{path}: expected `features` [N, D] and the `network` that they are of, found "
      f"{', '.join(sorted(stored)) or 'nothing'}; give a reference.npz of --job=gan."
    )
  if str(stored["network"]) != name:
    raise ValueError(
      f"{path}: features of {stored['network']}, but config.gan.features is {name}; remove the "
      "file, or give the same network."
    )
  return stored["features"]


@dataclasses.dataclass(frozen=True)
class Item:
  """One run, ready to start."""

  settings: Settings
  folder: pathlib.Path
  trainer: gan.GanTrainer
  dataset: data.Dataset
  judge: Judge | None


def prepare(settings: Settings, folder: pathlib.Path) -> Item:
  """Loads the data and builds the run: everything that can be wrong is found before any writes."""
  judge = open_judge(settings) if settings.gan.features else None
  dataset = prepared.load_data(settings.data)
  if judge is not None:
    judge.check(dataset)
  devices = meshes.devices_for_batch(settings.train.batch_size, fsdp=settings.runtime.fsdp)
  mesh = meshes.create(fsdp=settings.runtime.fsdp, devices=devices)
  return Item(settings, folder, gan.build(settings, dataset, mesh), dataset, judge)


def run(item: Item, place: workdir.Workdir, *, command: str, stop: interrupt.StopRequest) -> None:
  """Trains from the newest checkpoint, or from the start, to the end, and writes `gan.json`."""
  clock, settings, trainer = Clock("gan"), item.settings, item.trainer
  with contextlib.ExitStack() as stack:
    saver = stack.enter_context(
      checkpoint.Checkpointer(place.checkpoints, keep_last=settings.train.keep_checkpoints)
    )
    restored = saver.restore(trainer.state)
    step = restored.metadata["step"] if restored else 0
    metadata = restored.metadata if restored else {}
    before = float(metadata.get("seconds", 0.0))
    if step < trainer.num_steps:
      log.info(_words(item) if not step else f"{settings.name}: resuming from step {step}.")
      events = place.tensorboard if settings.runtime.tensorboard else None
      writer = stack.enter_context(
        writers.MetricWriter(place.metrics, tensorboard=events, last_step=step)
      )
      bar = stack.enter_context(log.Progress(settings.name, trainer.num_steps, first_step=step))
      watch = Watch(item, place)
      hooks = train.Hooks(
        writer=writer,
        saver=saver,
        should_stop=stop.agreed,
        progress=lambda at, images, scalars: bar.update(at, units=images, metrics=scalars),
        monitors={"gan": watch},
      )
      train.run(
        trainer,
        hooks,
        state=restored.state if restored else None,
        metadata=metadata,
        extra=lambda: {"seconds": before + clock.seconds()},
      )
    if log.is_primary():
      seconds = {"gan": before + (clock.seconds() if step < trainer.num_steps else 0.0)}
      found = _results(item, writers.read(place.metrics), clock)
      results.write(place.path / FILE, dataclasses.replace(found, command=command, seconds=seconds))
      log.info(f"{settings.name}: wrote {place.path / FILE}")


def _words(item: Item) -> str:
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(tree))
    for tree in (item.trainer.state.generator, item.trainer.state.critic)
  ]
  judged = "" if item.judge else "; no proxy-FID, for want of config.gan.features"
  return (
    f"{item.settings.name}: {item.settings.gan.loss}, {sizes[0]:,} parameters of the generator and "
    f"{sizes[1]:,} of the critic; {item.dataset.title}, {len(item.dataset.train):,} training "
    f"examples; {item.trainer.num_steps:,} steps{judged}"
  )


class Watch:
  """Draws a grid, and measures the proxies, every `train.evaluate_every_epochs` and at the end.

  A `train.loop.Monitor`. The draws are the same every time: two grids show the same pictures grow.
  """

  def __init__(self, item: Item, place: workdir.Workdir):
    train_settings = item.settings.train
    per_epoch = item.trainer.parts.steps_per_epoch
    self._last = item.trainer.num_steps
    self._every = steps_of(train_settings.evaluate_every_epochs, per_epoch) or self._last
    self._item, self._place = item, place
    wanted = item.settings.gan.reference
    path = pathlib.Path(wanted).expanduser() if wanted else place.path / REFERENCE_FILE
    self._compare = item.judge.compare_with(path, item.dataset.train) if item.judge else None

  def steps_left(self, step: int) -> int:
    """Returns the steps to the next grid."""
    return min(self._every - step % self._every, max(self._last - step, 1))

  def due(self, step: int) -> bool:
    """Tells whether a grid is due."""
    return step % self._every == 0 or step == self._last

  def pause(self) -> None:
    """Nothing is timed here."""

  def __call__(self, step: int, sample: Any) -> Mapping[str, float]:
    """Writes the grid and returns the proxies."""
    kinds, each = self._item.dataset.num_classes, self._item.settings.report.num_samples
    key = generated.sampling_key(self._item.settings)
    if each and log.is_primary():
      labels = np.repeat(np.arange(kinds), each)
      made = generated.draw_pictures(key, sample, labels)
      write_grid(
        self._place.samples / f"gan_{step:08d}.png", made.reshape(kinds, each, *made.shape[1:])
      )
    if self._compare is None:
      return {}
    labels = np.arange(self._item.settings.gan.fid_examples) % kinds
    return self._compare(generated.draw_pictures(jax.random.fold_in(key, 1), sample, labels))


def write_grid(path: pathlib.Path, levels: UInt8[np.ndarray, "R S H W C"]) -> None:
  """Writes rows of pictures into a PNG, twice as large."""
  padded = np.pad(levels / 255, ((0, 0), (0, 0), (0, _GAP), (0, 0), (0, 0)), constant_values=1.0)
  rows, each, height, width, channels = padded.shape
  columns = padded.transpose(1, 0, 2, 3, 4).reshape(each, rows * height, width, channels)[:, :-_GAP]
  files.write_strip(path, columns, height=2 * columns.shape[1])


def _results(item: Item, records: list[Any], clock: Clock) -> Results:
  """Puts the last proxies and all curves together."""
  settings, curve = item.settings, writers.curve(records, "gan/")
  last, found, flags = (curve[-1] if curve else {}), [], []
  for name in ("proxy_fid", "proxy_kid") if "proxy_fid" in last else ():
    spread = 1.96 * last[f"{name}_stderr"] if f"{name}_stderr" in last else None
    metric = Metric(
      name=name,
      value=last[name],
      low=None if spread is None else last[name] - spread,
      high=None if spread is None else last[name] + spread,
      confidence=None if spread is None else 0.95,
      interval="none" if spread is None else "standard error over blocks",
      count=settings.gan.fid_examples,
      unit="",
      better="lower",
      dataset=item.dataset.name,
      split="train",
      source=item.dataset.source,
    )
    found.append(metric)
    words = "proxy_fid and proxy_kid compare penultimate features of a classifier, not Inception's."
    remedy = "Compare runs with the same config.gan.features only."
    flags = [results.Flag("proxy_features", "note", words, remedy)]
  curves = {"gan": curve, "training": writers.curve(records, "train/")}
  curves = {name: points for name, points in curves.items() if points}
  return clock.results(settings, found, curves, flags=flags)
