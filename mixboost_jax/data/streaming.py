# SPDX-License-Identifier: Apache-2.0
"""Batches of a set that stays in its files: decoded by threads, some steps ahead of training.

Which examples a step takes follows from its number alone, so a stream starts anywhere and holds no
state. Every process decodes only the rows that its own devices take. Threads are enough: Pillow
decodes and resizes without the interpreter's lock.
"""

import collections
import concurrent.futures
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from mixboost_jax.data.dataset import Split
from mixboost_jax.data.device import DeviceSplit
from mixboost_jax.data.pictures import Window
from mixboost_jax.data.stored import num_threads

_POLL = 0.2  # seconds after which a waiting thread looks whether it is still wanted


class Request(NamedTuple):
  """The examples of one step."""

  places: Int[np.ndarray, "A M"]
  """Of the examples in the split: micro-batches of M examples."""
  windows: Sequence[Window] | None
  """What to cut out of each, in the order of `places.ravel()`; the middle squares if None."""


class _Part(NamedTuple):
  """Columns of a batch that lie on one device (or on several), on the host."""

  images: np.ndarray
  labels: np.ndarray
  ids: np.ndarray


Started = tuple[tuple[int, ...], dict[int, _Part], list[concurrent.futures.Future]]
"""Shape of a request, its parts by their first column, and who fills them."""


class Decoder:
  """Turns requests into arrays on the devices; `start` and `finish` let several overlap."""

  def __init__(self, split: Split, sharding: jax.sharding.Sharding, *, threads: int = 0):
    """Starts the threads (0: one per core) that decode pictures of a split in files.

    `sharding` is of arrays [A, M, ...], whose second axis is split over the devices.
    """
    self._split, self._sharding = split, sharding
    self._pool = concurrent.futures.ThreadPoolExecutor(num_threads(threads), "decode")

  def start(self, request: Request) -> Started:
    """Hands a request to the threads."""
    shape, parts, jobs = request.places.shape, {}, []
    for columns in self._own_columns(shape):
      places = request.places[:, columns]
      images = np.empty((*places.shape, *self._split.images.shape[1:]), np.uint8)
      part = _Part(images, np.empty(places.shape, np.int32), self._split.ids[places])
      parts[columns.start] = part
      for row, column in np.ndindex(*places.shape):
        number = row * shape[1] + columns.start + column
        window = request.windows[number] if request.windows else None
        place = int(places[row, column])
        jobs.append(self._pool.submit(self._decode, part, (row, column), place, window))
    return shape, parts, jobs

  def finish(self, started: Started) -> DeviceSplit:
    """Waits for a request and returns its examples as uint8[A, M, H, W, C], int32[A, M] (twice).

    Raises:
      ValueError: if a picture is unreadable; the message names the file and the remedy.
    """
    shape, parts, jobs = started
    for job in jobs:
      job.result()

    def place(name: str) -> jax.Array:
      full = (*shape, *getattr(next(iter(parts.values())), name).shape[2:])
      indices = self._sharding.addressable_devices_indices_map(full)
      pieces = [
        jax.device_put(getattr(parts[index[1].start or 0], name), device)
        for device, index in indices.items()
        if index is not None
      ]
      return jax.make_array_from_single_device_arrays(full, self._sharding, pieces)

    return DeviceSplit(place("images"), place("labels"), place("ids"))

  def __call__(self, request: Request) -> DeviceSplit:
    """Does one request from beginning to end."""
    return self.finish(self.start(request))

  def close(self) -> None:
    """Ends the threads."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  def _own_columns(self, shape: tuple[int, ...]) -> list[slice]:
    """Returns the columns that the devices of this process take, each piece once."""
    indices = self._sharding.addressable_devices_indices_map(shape).values()
    found = {index[1].indices(shape[1])[:2] for index in indices if index is not None}
    return [slice(start, stop) for start, stop in sorted(found)]

  def _decode(self, part: _Part, at: tuple[int, int], place: int, window: Window | None) -> None:
    stored: Any = self._split.images
    part.images[at], part.labels[at] = stored.read(place, window=window)


class Ahead:
  """Yields the batches of steps `first` to `last` - 1, decoded before they are asked for.

  A thread walks through the steps and keeps `ahead` batches in the queue while the next ones are
  decoded. An error of step t is raised when step t is asked for, not before.
  """

  def __init__(
    self, decoder: Decoder, request: Callable[[int], Request], *, first: int, last: int, ahead: int
  ):
    """Starts decoding.

    Args:
      decoder: not used by anybody else meanwhile.
      request: `step -> request`, called in another thread.
      first: step to begin with.
      last: one behind the last step.
      ahead: batches that wait on the devices; host memory holds as many again.
    """
    self._decoder, self._request = decoder, request
    self._steps, self._ahead = range(first, last), ahead
    self._ready: queue.Queue = queue.Queue(ahead)
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._work, name="stream", daemon=True)
    self._thread.start()

  def __iter__(self) -> Iterator[tuple[int, DeviceSplit]]:
    """Yields (step, batch)."""
    for step in self._steps:
      batch, error = self._ready.get()
      if error is not None:
        raise error
      yield step, batch

  def close(self) -> None:
    """Stops, wherever it is."""
    self._closed.set()
    self._thread.join()

  def _work(self) -> None:
    started: collections.deque = collections.deque()
    coming = iter(self._steps)
    try:
      while not self._closed.is_set():
        while len(started) <= self._ahead and (step := next(coming, None)) is not None:
          started.append(self._decoder.start(self._request(step)))
        if not started:
          return
        self._put((self._decoder.finish(started.popleft()), None))
    except BaseException as error:  # raised again where the batch is asked for
      self._put((None, error))
    finally:
      for _, _, jobs in started:
        for job in jobs:
          job.cancel()

  def _put(self, item: Any) -> None:
    while not self._closed.is_set():
      try:
        return self._ready.put(item, timeout=_POLL)
      except queue.Full:
        continue
