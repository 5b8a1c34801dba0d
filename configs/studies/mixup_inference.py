# SPDX-License-Identifier: Apache-2.0
"""Mixup Inference under attack: Tables 2 and 3 of Pang et al. 2020, arXiv:1909.11515.

  python -m mixboost_jax.main --job=study --config=configs/studies/mixup_inference.py --minutes=60 \
    --workdir=runs/mixup_inference --results=results/studies/mixup_inference --config.data.dir=DIR

Mixup and interpolated adversarial training, and their ablations ERM + MI-OL and AT + MI-OL. Columns
are the tables' attacks, which know nothing of the defense (oblivious), the adaptive one, and
one through the whole defense.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import studies

OBLIVIOUS = [f"oblivious-{steps}{kind}" for kind in ("", "-targeted") for steps in (10, 50, 200)]
OTHERS = ("gaussian-noise", "rotation", "crop-pad", "crop-resize")
BESIDE_MIXUP = ",".join(("none,mi-pl,mi-ol", *OTHERS))
BESIDE_IAT = ",".join(("none,mi-pl,mi-ol", *(f"cifar10/iat:{name}" for name in OTHERS)))
ROWS = {
  "mixup": ("mixup_each", {"audit.defenses": BESIDE_MIXUP, "audit.preset": "cifar10/mixup"}),
  "iat": ("iat", {"audit.defenses": BESIDE_IAT, "audit.preset": "cifar10/iat"}),
  "erm": ("baseline", {"audit.defenses": "none,mi-ol", "audit.preset": "cifar10/erm"}),
  "at": ("at", {"audit.defenses": "none,mi-ol", "audit.preset": "cifar10/at"}),
}
KEYS = {
  "audit.attacks": ",".join((*OBLIVIOUS, "adaptive-10", "eot-ce-20")),
  "audit.num_images": 500,
  "audit.batch_size": 250,
  "audit.num_draws": 15,
  "audit.samples": 5,
  "audit.redraws": 2,
  "audit.eot_step_size": 2 / 255,
}
SMOKE = {
  "adversary.num_steps": 1,
  "audit.attacks": "oblivious-1,adaptive-1",
  "audit.defenses": "none,mi-ol",
  "audit.num_images": 8,
  "audit.batch_size": 8,
  "audit.num_draws": 2,
  "audit.redraws": 1,
  "audit.pool_examples": 40,
}


def get_config(arg: str = "") -> ConfigDict:
  blocks = [(ROWS, (0, 1, 2))]
  jobs = ["audit"]
  return studies.build("mixup_inference", arg, blocks=blocks, jobs=jobs, keys=KEYS, smoke=SMOKE)
