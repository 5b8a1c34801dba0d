#!/usr/bin/env bash
# Mixup, AT and IAT networks of configs/mi_cifar10.py:short, each defended and attacked:
#   launch/mi_cifar10_short.sh DATA_DIR [RUNS_DIR] [further options of both jobs]
# A run folder that is trained already is only audited. Writes results/mi_cifar10_short_*.json.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: launch/mi_cifar10_short.sh DATA_DIR [RUNS_DIR] [options]}
runs=${2:-runs/mi_cifar10_short}
shift $(($# < 2 ? $# : 2))
defenses=none,mi-pl,mi-ol,cifar10/iat:gaussian-noise,cifar10/iat:rotation
declare -A local=([mixup]="none,mi-pl,mi-ol,gaussian-noise,rotation" [at]="$defenses" [iat]="$defenses")
for word in mixup at iat; do
  common=(--config="configs/mi_cifar10.py:$word+short" --config.data.dir="$data"
    --workdir="$runs/$word" "$@")
  set -x
  python -m mixboost_jax.main --job=train "${common[@]}"
  python -m mixboost_jax.main --job=audit "${common[@]}" \
    --config.audit.defenses="${local[$word]}" \
    --config.audit.attacks=oblivious-10,adaptive-10,eot-ce-20 \
    --config.audit.num_images=160 --config.audit.batch_size=160 --config.audit.samples=5 \
    --config.audit.num_draws=15 --config.audit.redraws=2 --config.audit.eot_step_size=0.0078
  { set +x; } 2>/dev/null
  cp "$runs/$word/audit.json" "results/mi_cifar10_short_$word.json"
done
python -m mixboost_jax.report results/mi_cifar10_short_{mixup,at,iat}.json --out="$runs/report.html"
