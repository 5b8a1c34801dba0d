#!/usr/bin/env bash
# The same command on every worker of a TPU slice:
#   TPU=name ZONE=zone launch/tpu_vm.sh configs/cifar10.py:boost --workdir=gs-mounted-folder/run
set -euo pipefail
: "${TPU:?name of the TPU VM}" "${ZONE:?its zone}"
config=${1:?usage: launch/tpu_vm.sh CONFIG[:words] [options]}
shift
# The remote shell reads the command once more: every word is quoted for it.
printf -v words ' %q' "--config=$config" --config.model.compute_dtype=bfloat16 "$@"
command="cd mixboost_jax && .venv/bin/python -m mixboost_jax.main$words"
set -x
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$command"
