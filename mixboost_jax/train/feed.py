# SPDX-License-Identifier: Apache-2.0
"""What a step is given beside the state: the set on the devices, or the pictures of this step."""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixboost_jax import data, keys
from mixboost_jax.keys import Stream
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Settings
from mixboost_jax.train import augmentation

Inputs = Callable[[int], tuple[Any, ...]]
"""`step -> arguments of the compiled step behind the state`, for consecutive steps."""


@runtime_checkable
class Feed(Protocol):
  """Where the examples of a run come from."""

  ids: np.ndarray
  """Of the training examples, in the order of their rows."""
  waited: float
  """Seconds that steps have waited for their pictures; 0 where the set lies on the device."""

  def start(self, step: int) -> contextlib.AbstractContextManager[Inputs]:
    """Makes everything ready for training from `step` on."""
    ...

  def batch(self, rows: np.ndarray, *, epoch: int) -> data.Batch:
    """Returns examples as the step takes them in an epoch, before it augments them."""
    ...

  def size_of(self, row: int) -> tuple[int, int]:
    """Returns height and width of a picture as augmentation finds it."""
    ...


class Resident:
  """The whole training split lies on the devices; a step gets it with the order of its epoch."""

  waited = 0.0

  def __init__(
    self,
    split: data.DeviceSplit,
    root: Any,
    order: Callable[..., jax.Array],
    *,
    steps_per_epoch: int,
  ):
    self.split, self.ids = split, np.asarray(split.ids)
    self._root, self._order, self._steps_per_epoch = root, order, steps_per_epoch

  @contextlib.contextmanager
  def start(self, step: int) -> Iterator[Inputs]:
    """Nothing has to be made ready."""
    del step
    kept: dict[int, jax.Array] = {}

    def inputs(step: int) -> tuple[Any, ...]:
      epoch = step // self._steps_per_epoch
      if epoch not in kept:
        kept.clear()
        kept[epoch] = self._order(self._root, np.int32(step))
      return self.split, kept[epoch], self._root

    yield inputs

  def batch(self, rows: np.ndarray, *, epoch: int) -> data.Batch:
    """Returns these rows, the same in every epoch."""
    del epoch
    return data.take(self.split, jnp.asarray(rows))

  def size_of(self, row: int) -> tuple[int, int]:
    """Returns the size that all pictures have."""
    del row
    height, width = self.split.images.shape[1:3]
    return height, width


class Streamed:
  """The pictures stay in their files; a step gets those that it needs.

  Order, windows and draws follow from seed, step and ids, so a run goes on where it stopped, and
  neither threads nor processes nor the size of a batch change what an example looks like.
  """

  def __init__(
    self,
    settings: Settings,
    dataset: data.Dataset,
    mesh: Mesh,
    root: Any,
    *,
    num_steps: int,
  ):
    """Reads nothing yet.

    Args:
      settings: of the run.
      dataset: of which the training split is streamed.
      mesh: of the devices of all processes.
      root: of all randomness, on those devices.
      num_steps: length of the run.

    Raises:
      ValueError: if the processes of the run see different files.
    """
    _check_agreement(dataset)
    self.ids, self.waited = dataset.train.ids, 0.0
    self._settings, self._split, self._root = settings, dataset.train, root
    self._num_steps = num_steps
    self._sharding = NamedSharding(mesh, PartitionSpec(None, meshes.AXES))
    train = settings.train
    self._micro_batches = (train.accumulate, train.batch_size // train.accumulate)
    self._steps_per_epoch = len(self._split) // train.batch_size
    with _on_host():
      self._host_root = keys.root_key(settings.seed)
      self._windows = augmentation.host_windows(settings, self._host_root)
    self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int32))

  @contextlib.contextmanager
  def start(self, step: int) -> Iterator[Inputs]:
    """Decodes ahead of the steps, until the block ends."""
    runtime = self._settings.runtime
    decoder = data.Decoder(self._split, self._sharding, threads=runtime.decode_threads)
    ahead = data.Ahead(
      decoder, self.request, first=step, last=self._num_steps, ahead=runtime.batches_ahead
    )
    coming = iter(ahead)
    try:
      yield lambda step: (self._next(coming, step), self._root)
    finally:
      ahead.close()
      decoder.close()

  def _next(self, coming: Iterator[tuple[int, data.DeviceSplit]], step: int) -> data.DeviceSplit:
    started = time.perf_counter()
    number, batch = next(coming, (None, None))
    self.waited += time.perf_counter() - started
    if batch is None or number != step:
      raise RuntimeError(f"feed: asked for step {step}, but step {number} comes next.")
    return batch

  def request(self, step: int) -> data.Request:
    """Returns the examples of a step, and what to cut out of them."""
    epoch, position = divmod(step, self._steps_per_epoch)
    if self._order[0] != epoch:
      with _on_host():
        key = keys.stream_key(self._host_root, Stream.ORDER, epoch)
        self._order = (epoch, np.asarray(data.epoch_order(key, len(self._split))))
    size = self._settings.train.batch_size
    rows = self._order[1][position * size : (position + 1) * size]
    return self._request(rows.reshape(self._micro_batches), epoch)

  def _request(self, rows: np.ndarray, epoch: int) -> data.Request:
    if self._windows is None:
      return data.Request(rows, None)
    with _on_host():
      return data.Request(rows, self._windows(self.ids[rows.ravel()], epoch))

  def batch(self, rows: np.ndarray, *, epoch: int) -> data.Batch:
    """Decodes these rows as an epoch sees them; every process does all of them."""
    request = self._request(np.asarray(rows)[None], epoch)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    decoder = data.Decoder(self._split, here)
    try:
      found = decoder(request)
    finally:
      decoder.close()
    batch = data.to_unit(data.DeviceSplit(*(values[0] for values in found)))
    return data.Batch(*(jnp.asarray(np.asarray(values)) for values in batch))  # on no fixed device

  def size_of(self, row: int) -> tuple[int, int]:
    """Returns the size of the stored picture if windows are cut out of it."""
    stored: Any = self._split.images
    return stored.size_of(row) if self._windows is not None else stored.shape[1:3]


def _check_agreement(dataset: data.Dataset) -> None:
  if jax.process_count() == 1:
    return
  from jax.experimental import multihost_utils

  mine = np.uint32(zlib.crc32(dataset.fingerprint.encode()))
  if len(np.unique(multihost_utils.process_allgather(mine))) > 1:
    raise ValueError(
      f"{dataset.title}: process {jax.process_index()} has {dataset.fingerprint}, others have not; "
      "give every host the same copy of the files."
    )


def _on_host() -> contextlib.AbstractContextManager:
  """Computes on the CPU where there is one, not between the steps on the accelerator."""
  try:
    return jax.default_device(jax.local_devices(backend="cpu")[0])
  except RuntimeError:  # JAX was told to use the accelerator only
    return contextlib.nullcontext()
