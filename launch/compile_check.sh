#!/usr/bin/env bash
# Compiles a small two-view training step for four TPU v5e and one H100, which need not be there.
# Needs their compilers: pip install -e ".[aot-tpu,aot-cuda]". A minute or two on two cores.
#   launch/compile_check.sh [WORKDIR]
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=${1:-runs/compile_check}
for target in v5e-4 h100; do
  python -m mixboost_jax.main --job=compile --config=configs/cifar10.py:boost \
    --config.model.name=wrn-10-1 --config.model.compute_dtype=bfloat16 \
    --config.runtime.target="$target" --workdir="$workdir"
done
