#!/usr/bin/env bash
# Everything that waits for a GPU, in one command; JSON lands under results/. About 40 minutes.
#   launch/gpu_check.sh [FOLDER with cifar-10-batches-py]
set -euo pipefail
cd "$(dirname "$0")/.."
python -c 'import jax; assert jax.default_backend() == "gpu", jax.devices(); print(jax.devices())'
set -x
python -m pytest -q -m gpu tests
python benchmarks/train_step.py --batch=512 --compute=bfloat16
python benchmarks/augment.py --out=results/benchmarks/augment_gpu.json
if python -c 'import torch' 2>/dev/null; then # the peers of these run in PyTorch
  python benchmarks/mixup_inference.py --out=results/benchmarks/mixup_inference_gpu.json
  PYTHONPATH=. python benchmarks/interaction_rate.py --peer-python="$(command -v python)" \
    --out=results/benchmarks/interaction_rate_gpu.json
  python benchmarks/adversarial_step.py --out=results/benchmarks/adversarial_step_gpu.json
  if [ -n "${PEER_PATH:-}" ]; then # clones of bethgelab/foolbox and fra31/auto-attack, A:B
    PYTHONPATH=. python benchmarks/evaluation.py --parts pgd autoattack --peer-path="$PEER_PATH" \
      --attacked=512 --auto-attacked=512 --out=results/benchmarks/attacks_gpu.json
  fi
fi
if [ -n "${ROBUSTNESS:-}" ]; then # a clone of hendrycks/robustness, and what its scripts import
  PYTHONPATH=. python benchmarks/evaluation.py --parts corruptions --robustness="$ROBUSTNESS" \
    --out=results/benchmarks/corruptions_gpu.json
fi
if [ $# -ge 1 ]; then
  for words in baseline boost; do
    python -m mixboost_jax.main --config="configs/cifar10.py:$words" --config.data.dir="$1" \
      --config.model.compute_dtype=bfloat16 --config.train.epochs=30.0 --workdir="runs/gpu/$words"
  done
  python -m mixboost_jax.report runs/gpu/baseline runs/gpu/boost --out=runs/gpu/report.html
fi
