# SPDX-License-Identifier: Apache-2.0
"""A wide ResNet in evaluation mode from one set of NumPy weights, to be run by JAX and by a peer.

Batch normalisation in evaluation mode is a scale and a shift per channel; both sides apply these.
"""

import numpy as np

Weights = dict[str, np.ndarray]


def layout(depth: int, width: int) -> list[tuple[int, int, int]]:
  """Returns (channels in, channels out, stride) of each block of WRN-depth-width."""
  blocks, channels = [], 16
  for group, out in enumerate((16 * width, 32 * width, 64 * width)):
    for block in range((depth - 4) // 6):
      blocks.append((channels, out, 2 if group and not block else 1))
      channels = out
  return blocks


def init(seed: int, *, depth: int, width: int, channels: int = 3, num_classes: int = 10) -> Weights:
  """Returns random weights; kernels are `[3, 3, in, out]`."""
  rng = np.random.default_rng(seed)

  def kernel(size: int, fan_in: int, fan_out: int) -> np.ndarray:
    scale = (2 / (size * size * fan_in)) ** 0.5
    return rng.normal(0, scale, (size, size, fan_in, fan_out)).astype(np.float32)

  weights = {"stem": kernel(3, channels, 16)}
  for i, (fan_in, fan_out, _) in enumerate(layout(depth, width)):
    weights |= {
      f"{i}/scale1": np.ones(fan_in, np.float32),
      f"{i}/shift1": np.zeros(fan_in, np.float32),
      f"{i}/conv1": kernel(3, fan_in, fan_out),
      f"{i}/scale2": np.ones(fan_out, np.float32),
      f"{i}/shift2": np.zeros(fan_out, np.float32),
      f"{i}/conv2": kernel(3, fan_out, fan_out) * 0.3,
    }
    if fan_in != fan_out:
      weights[f"{i}/shortcut"] = kernel(1, fan_in, fan_out)
  last = layout(depth, width)[-1][1]
  weights["dense"] = rng.normal(0, last**-0.5, (last, num_classes)).astype(np.float32)
  return weights


def jax_logits(weights, images, *, depth: int, width: int, plain: bool = True):
  """Runs the network in JAX; `images` NHWC in [0, 1].

  Convolutions are those of `jax.lax` if `plain`, else those of the built-in networks, which have
  gradients of their own.
  """
  import jax
  import jax.numpy as jnp

  def conv(x, kernel, stride=1):
    if not plain:
      from mixboost_jax.models.layers import conv2d

      return conv2d(x, kernel, stride=stride, padding=(kernel.shape[0] - 1) // 2)
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      [((k - 1) // 2, (k - 1) // 2) for k in kernel.shape[:2]],
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  x = conv(2 * images - 1, weights["stem"])
  for i, (_, _, stride) in enumerate(layout(depth, width)):
    y = jax.nn.relu(x * weights[f"{i}/scale1"] + weights[f"{i}/shift1"])
    shortcut = x
    if f"{i}/shortcut" in weights:
      shortcut = conv(y, weights[f"{i}/shortcut"], stride)
    y = conv(y, weights[f"{i}/conv1"], stride)
    y = jax.nn.relu(y * weights[f"{i}/scale2"] + weights[f"{i}/shift2"])
    x = shortcut + conv(y, weights[f"{i}/conv2"])
  return jnp.mean(jax.nn.relu(x), axis=(1, 2)) @ weights["dense"]


def torch_network(
  weights, *, depth: int, width: int, channels_last: bool = False, device: str = "cpu"
):
  """Returns the network as a function of NCHW tensors, in PyTorch."""
  import torch
  from torch.nn import functional

  def tensor(name):
    value = torch.from_numpy(np.array(weights[name])).to(device)
    if value.ndim == 4:
      value = value.permute(3, 2, 0, 1).contiguous()
      return value.to(memory_format=torch.channels_last) if channels_last else value
    return value if name == "dense" else value[None, :, None, None]

  w = {name: tensor(name) for name in weights}

  def run(images):
    x = functional.conv2d(2 * images - 1, w["stem"], padding=1)
    for i, (_, _, stride) in enumerate(layout(depth, width)):
      y = functional.relu(x * w[f"{i}/scale1"] + w[f"{i}/shift1"])
      shortcut = x
      if f"{i}/shortcut" in w:
        shortcut = functional.conv2d(y, w[f"{i}/shortcut"], stride=stride)
      y = functional.conv2d(y, w[f"{i}/conv1"], stride=stride, padding=1)
      y = functional.relu(y * w[f"{i}/scale2"] + w[f"{i}/shift2"])
      x = shortcut + functional.conv2d(y, w[f"{i}/conv2"], padding=1)
    return functional.relu(x).mean(dim=(2, 3)) @ w["dense"]

  return run
