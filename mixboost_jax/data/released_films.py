# SPDX-License-Identifier: Apache-2.0
"""Reads one film of ImageNet-P: an `.npy` array of frames, or an MP4 file through OpenCV."""

import pathlib

import numpy as np

from mixboost_jax.data import arrays


def decode_film(file: pathlib.Path) -> np.ndarray:
  """Returns uint8[frames, H, W, 3] in RGB.

  Args:
    file: `.npy` (as saved by `numpy.save`), or a film for which `opencv-python-headless` must be
      installed; this package does not ask for it.

  Raises:
    ValueError: if the file is damaged, or it is a film and there is no OpenCV.
  """
  frames = arrays.open_npy(file) if file.suffix.lower() == ".npy" else _video(file)
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
    raise ValueError(
      f"{file}: expected uint8[2 or more frames, H, W, 3], got {frames.dtype}{list(frames.shape)}; "
      "extract the published archive again."
    )
  return np.array(frames)


def _video(file: pathlib.Path) -> np.ndarray:
  try:
    import cv2  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ValueError(
      f"{file}: expected OpenCV to decode films, got none; pip install opencv-python-headless, or "
      "convert each film to an .npy array uint8[frames, H, W, 3] beside it."
    ) from error
  film = cv2.VideoCapture(str(file))
  frames = []
  while True:
    more, frame = film.read()
    if not more:
      break
    frames.append(frame[..., ::-1])  # stored as BGR
  film.release()
  return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
