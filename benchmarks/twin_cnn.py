# SPDX-License-Identifier: Apache-2.0
"""Three convolutions and a dense layer from one set of NumPy weights, for JAX and for a peer."""

import numpy as np

Weights = dict[str, np.ndarray]
LAYERS = ((3, 16, 2), (16, 32, 2), (32, 32, 1))
"""Channels in, channels out, stride."""


def init(seed: int, *, num_classes: int) -> Weights:
  """Returns random weights; kernels are `[3, 3, in, out]`."""
  rng = np.random.default_rng(seed)
  weights = {}
  for i, (fan_in, fan_out, _) in enumerate(LAYERS):
    kernel = rng.normal(0, (2 / (9 * fan_in)) ** 0.5, (3, 3, fan_in, fan_out))
    weights |= {f"conv{i}": kernel, f"bias{i}": np.zeros(fan_out)}
  last = LAYERS[-1][1]
  weights |= {"dense": rng.normal(0, last**-0.5, (last, num_classes))}
  return {name: value.astype(np.float32) for name, value in weights.items()}


def jax_logits(weights, images):
  """Runs the network in JAX; `images` NHWC in [0, 1]."""
  import jax

  x = 2 * images - 1
  for i, (_, _, stride) in enumerate(LAYERS):
    x = jax.lax.conv_general_dilated(
      x,
      weights[f"conv{i}"],
      (stride, stride),
      ((1, 1), (1, 1)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jax.nn.relu(x + weights[f"bias{i}"][None, None, None])
  return x.mean((1, 2)) @ weights["dense"]


def torch_network(weights, *, device: str = "cpu"):
  """Returns the network as a function of NCHW tensors, in PyTorch."""
  import torch
  from torch.nn import functional

  w = {name: torch.from_numpy(np.array(value)).to(device) for name, value in weights.items()}
  kernels = [w[f"conv{i}"].permute(3, 2, 0, 1).contiguous() for i in range(len(LAYERS))]

  def run(images):
    x = 2 * images - 1
    for i, (_, _, stride) in enumerate(LAYERS):
      x = functional.relu(functional.conv2d(x, kernels[i], w[f"bias{i}"], stride, padding=1))
    return x.mean(dim=(2, 3)) @ w["dense"]

  return run
