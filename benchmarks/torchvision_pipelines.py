# SPDX-License-Identifier: Apache-2.0
"""The second peer of `benchmarks/augment.py`: the policies of torchvision.transforms.v2.

One uint8 tensor at a time, as a data loader's worker does it, or a whole batch on the GPU. The
batch shares one draw, which is less work than a draw for every picture, and another augmentation.
PixMix is not in torchvision. Imports no JAX.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2

PIPELINES: dict[str, Callable[[], Any]] = {
  "trivial_augment_wide": v2.TrivialAugmentWide,
  "randaugment": v2.RandAugment,
  "autoaugment": lambda: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
  "augmix": v2.AugMix,
}


def process(name: str, size: int, seconds: float, seed: int) -> tuple[int, float]:
  """Processes pictures for about `seconds`; returns how many and the exact time."""
  torch.set_num_threads(1)
  torch.manual_seed(seed)
  pictures = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
  return timed(name, list(pictures), seconds)


def process_batch(name: str, size: int, batch: int, seconds: float, seed: int) -> tuple[int, float]:
  """The same for a batch on the GPU, with one draw for all of it; nothing without a GPU."""
  if not torch.cuda.is_available():
    return 0, 1.0
  torch.manual_seed(seed)
  shape = (batch, 3, size, size)
  return timed(name, [torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")], seconds)


def timed(name: str, inputs: list[Any], seconds: float) -> tuple[int, float]:
  pipeline = v2.Compose([PIPELINES[name](), v2.ToDtype(torch.float32, scale=True)])
  wait = torch.cuda.synchronize if inputs[0].is_cuda else lambda: None
  pipeline(inputs[0])
  wait()
  start, count, elapsed = time.perf_counter(), 0, 0.0
  while elapsed < seconds:
    for pixels in inputs:
      pipeline(pixels)
      count += pixels.numel() // (3 * pixels.shape[-1] ** 2)
    wait()
    elapsed = time.perf_counter() - start
  return count, elapsed
