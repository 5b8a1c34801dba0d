#!/usr/bin/env bash
# One config with several seeds, then one report with means and standard deviations over them:
#   launch/sweep_seeds.sh configs/cifar10.py:boost 5 [options]
# Paths are those of the folder where it is called; Python is that of an active environment, else of
# the `.venv` of this checkout.
set -euo pipefail
config=${1:?usage: launch/sweep_seeds.sh CONFIG[:words] NUM_SEEDS [options]}
num=${2:?usage: launch/sweep_seeds.sh CONFIG[:words] NUM_SEEDS [options]}
shift 2
own=$(dirname "$0")/../.venv/bin/python
if [[ -z ${VIRTUAL_ENV:-} && -x $own ]]; then python=$own; else python=python; fi
"$python" -c "import mixboost_jax" >/dev/null 2>&1 || {
  echo "sweep_seeds.sh: $python does not find mixboost_jax; activate its environment first" >&2
  exit 2
}
name=$(basename "${config/.py/}" | tr ':+' '__')
for seed in $(seq 0 $((num - 1))); do
  set -x
  "$python" -m mixboost_jax.main --config="$config" --config.seed="$seed" \
    --workdir="runs/$name/seed$seed" "$@"
  { set +x; } 2>/dev/null
done
"$python" -m mixboost_jax.report runs/"$name"/seed* --out="runs/$name/report.html"
