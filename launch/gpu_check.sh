#!/usr/bin/env bash
# Everything that waits for a GPU, in stages that can be stopped and go on; what, and how to rehearse
# it without one, is said by --help:
#   launch/gpu_check.sh --data=FOLDER_WITH_CIFAR [--wheels=DIR] [--minutes=8.5] [--stage tests train]
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/../benchmarks/gpu_check.py" "$@"
