# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `interaction_rate.py`; runs in an interpreter that has torch.

usage: <python with torch> benchmarks/peer_interactions.py forwards INPUT.npz OUTPUT.json

The public protocol as it is commonly written: for a pair and an order, NumPy draws T contexts; the
4 T masked pictures are built from masks of cells and go through the network in one batch.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import twin_network


def measure(network, image, *, grid, pairs, order, num_contexts, channels_last):
  """Returns masked forwards per second over the given pairs."""
  rng, players = np.random.default_rng(0), grid * grid
  size = image.shape[-1]
  count, started = 0, time.perf_counter()
  for i, j in pairs:
    others = np.setdiff1d(np.arange(players), [i, j])
    masks = np.zeros((4 * num_contexts, players), np.float32)
    for t in range(num_contexts):
      masks[4 * t : 4 * t + 4, rng.choice(others, order, replace=False)] = 1
      masks[[4 * t, 4 * t + 1], i] = 1
      masks[[4 * t, 4 * t + 2], j] = 1
    cells = torch.from_numpy(masks).to(image.device).view(-1, 1, grid, grid)
    cells = torch.nn.functional.interpolate(cells, size=(size, size), mode="nearest")
    inputs = image * cells + 0.5 * (1 - cells)
    if channels_last:
      inputs = inputs.contiguous(memory_format=torch.channels_last)
    logits = network(inputs).view(num_contexts, 4, -1)
    rest = torch.cat([logits[..., :0], logits[..., 1:]], dim=-1).logsumexp(-1)
    reward = logits[..., 0] - rest
    (reward[:, 0] - reward[:, 1] - reward[:, 2] + reward[:, 3]).mean().item()
    count += 4 * num_contexts
  return count / (time.perf_counter() - started)


def main() -> None:
  _, source, target = sys.argv[1:]
  stored = np.load(source)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  weights = {name[2:]: stored[name] for name in stored.files if name.startswith("w:")}
  depth, width, order, contexts, grid = (int(value) for value in stored["numbers"])
  image = torch.from_numpy(stored["image"].transpose(2, 0, 1)[None].copy()).to(device)
  found: dict[str, Any] = {"device": device}
  with torch.no_grad():
    for name, last in (("nchw", False), ("channels_last", True)):
      network = twin_network.torch_network(
        weights, depth=depth, width=width, channels_last=last, device=device
      )
      options = {"grid": grid, "order": order, "num_contexts": contexts, "channels_last": last}
      measure(network, image, pairs=stored["pairs"][:1], **options)
      found[name] = measure(network, image, pairs=stored["pairs"], **options)
    found["logits"] = network(image).tolist()
  with open(target, "w") as file:
    json.dump(found, file)


if __name__ == "__main__":
  main()
