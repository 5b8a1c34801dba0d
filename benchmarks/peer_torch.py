# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of the attack and defense benchmarks; runs in an interpreter that has torch.

usage: <python with torch> benchmarks/peer_torch.py mixup|pgd|autoattack INPUT.npz OUTPUT.json

It needs neither JAX nor this package, and computes on a GPU where there is one.
"""

import json
import os
import sys
import time
from unittest import mock

import numpy as np
import torch
import twin_cnn
import twin_network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def load(path: str):
  stored = np.load(path)
  arrays = {name: stored[name] for name in stored.files}
  weights = {name[2:]: value for name, value in arrays.items() if name.startswith("w:")}
  rest = {name: value for name, value in arrays.items() if not name.startswith("w:")}
  return weights, rest


def nchw(images: np.ndarray) -> torch.Tensor:
  return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(DEVICE)


def wait() -> None:
  """Waits for the GPU, if there is one."""
  if DEVICE == "cuda":
    torch.cuda.synchronize()


def mixup_one_image(network, image, pool, pool_labels, num_draws: int, weight: float):
  """MI-OL as it is commonly written: one forward pass per mix."""
  predicted = int(network(image).argmax())
  total = 0.0
  for _ in range(num_draws):
    label = int(torch.randint(0, 9, ()))
    label += int(label >= predicted)
    rows = pool_labels[label]
    partner = pool[rows[int(torch.randint(0, len(rows), ()))]]
    total = total + torch.softmax(network(weight * image + (1 - weight) * partner[None]), dim=1)
  return total / num_draws


def mixup_batched(network, image, pool, num_draws: int, weight: float):
  """The same with one batch of mixes; the draw is simpler (any image)."""
  network(image).argmax()
  partners = pool[torch.randint(0, len(pool), (num_draws,))]
  return torch.softmax(network(weight * image + (1 - weight) * partners), dim=1).mean(dim=0)


def run_mixup(weights, rest) -> dict:
  depth, width = int(rest["depth"]), int(rest["width"])
  draws, weight = int(rest["num_draws"]), float(rest["mix_weight"])
  network = twin_network.torch_network(weights, depth=depth, width=width, device=DEVICE)
  images, pool = nchw(rest["images"]), nchw(rest["pool"])
  rows = [np.flatnonzero(rest["pool_labels"] == k) for k in range(10)]
  out = {}
  with torch.no_grad():
    out["logits"] = network(images[:4]).tolist()
    loop = (lambda x: mixup_one_image(network, x, pool, rows, draws, weight), "loop_ms")
    batched = (lambda x: mixup_batched(network, x, pool, draws, weight), "batched_ms")
    for function, name in (loop, batched):
      function(images[:1])
      wait()
      begin = time.perf_counter()
      for i in range(len(images)):
        function(images[i : i + 1])
      wait()
      out[name] = 1e3 * (time.perf_counter() - begin) / len(images)
  return out


def run_pgd(weights, rest) -> dict:
  for name in ("scipy", "scipy.ndimage", "scipy.ndimage.filters", "scipy.stats", "requests", "git"):
    sys.modules[name] = mock.MagicMock()  # for attacks that are not run here
  import foolbox  # pyright: ignore

  depth, width = int(rest["depth"]), int(rest["width"])
  run = twin_network.torch_network(weights, depth=depth, width=width, device=DEVICE)

  class Wrapped(torch.nn.Module):
    def forward(self, x):
      return run(x)

  model = foolbox.PyTorchModel(Wrapped().eval(), bounds=(0, 1), device=DEVICE)
  attack = foolbox.attacks.LinfPGD(
    abs_stepsize=float(rest["step_size"]), steps=int(rest["num_steps"]), random_start=True
  )
  images, labels = nchw(rest["images"]), torch.from_numpy(rest["labels"]).long().to(DEVICE)
  epsilon = float(rest["epsilon"])
  attack(model, images[:2], labels[:2], epsilons=epsilon)
  wait()
  begin = time.perf_counter()
  attack(model, images, labels, epsilons=epsilon)
  wait()
  return {"seconds": time.perf_counter() - begin}


def run_autoattack(weights, rest) -> dict:
  sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # holds a script of that name
  from autoattack import AutoAttack  # pyright: ignore

  network = twin_cnn.torch_network(weights, device=DEVICE)
  images, labels = nchw(rest["images"]), torch.from_numpy(rest["labels"]).long().to(DEVICE)
  num_classes = weights["dense"].shape[1]

  class Wrapped(torch.nn.Module):
    def forward(self, x):
      return network(x)

  norm = {"linf": "Linf", "l2": "L2"}[str(rest["norm"])]
  epsilon = float(rest["epsilon"])
  attack = AutoAttack(Wrapped(), norm=norm, eps=epsilon, device=DEVICE, verbose=False)
  attack.seed = 0
  if num_classes < 4:
    attack.attacks_to_run = [name for name in attack.attacks_to_run if name != "apgd-t"]
  attack.apgd_targeted.n_target_classes = min(9, num_classes - 1)
  attack.fab.n_target_classes = min(9, num_classes - 1)
  begin = time.perf_counter()
  found = attack.run_standard_evaluation(images, labels, bs=int(rest["batch_size"]))
  wait()
  seconds = time.perf_counter() - begin
  with torch.no_grad():
    clean = (network(images).argmax(1) == labels).cpu().numpy()
    robust = (network(found).argmax(1) == labels).cpu().numpy()
  return {
    "seconds": seconds,
    "clean": clean.tolist(),
    "robust": robust.tolist(),
    "attacks": attack.attacks_to_run,
  }


def main() -> None:
  what, source, target = sys.argv[1:]
  weights, rest = load(source)
  if "threads" in rest:
    torch.set_num_threads(int(rest["threads"]))
  runs = {"mixup": run_mixup, "pgd": run_pgd, "autoattack": run_autoattack}
  answer = runs[what](weights, rest)
  answer |= {"torch": torch.__version__, "device": DEVICE}
  with open(target, "w") as file:
    json.dump(answer, file)


if __name__ == "__main__":
  main()
