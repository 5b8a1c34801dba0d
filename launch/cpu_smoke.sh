#!/usr/bin/env bash
# Every config in its smallest form, on this machine, without a download.
set -euo pipefail
cd "$(dirname "$0")/.."
for config in demo cifar10 cifar100; do
  set -x
  python -m mixboost_jax.main --config="configs/$config.py:smoke" --workdir="runs/smoke/$config" "$@"
  { set +x; } 2>/dev/null
done
