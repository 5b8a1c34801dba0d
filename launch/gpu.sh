#!/usr/bin/env bash
# One run on all GPUs of this host: launch/gpu.sh configs/cifar10.py:boost [--config.key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
config=${1:?usage: launch/gpu.sh CONFIG[:words] [options]}
shift
set -x
python -m mixboost_jax.main --config="$config" --config.model.compute_dtype=bfloat16 "$@"
