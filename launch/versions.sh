#!/usr/bin/env bash
# README's tests on every set of versions that we promise, each in an environment of its own; the
# log is results/benchmarks/versions.json, and the table of docs/status.md is written from it.
#   launch/versions.sh [SET ...]        sets: 3.11-newest 3.12-gpu 3.13-newest 3.11-lowest
# A set is a Python and a lock of requirements/. Locks are made anew by `launch/versions.sh lock`,
# which needs uv; `gpu` holds the JAX of the accelerators we use, `lowest` the bounds of pyproject.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = lock ]; then
  compile() {
    uv pip compile -q --universal --generate-hashes --no-annotate --no-header pyproject.toml "$@" >/dev/null
  }
  compile --extra dev --python-version 3.11 --upgrade -o requirements/newest.txt
  compile --extra dev --python-version 3.12 -c requirements/gpu.in --upgrade -o requirements/gpu.txt
  compile --extra docs --python-version 3.11 -c requirements/newest.txt -o requirements/docs.txt
  compile --extra test --python-version 3.11 --resolution lowest-direct --upgrade \
    -o requirements/lowest.txt
  exit
fi

[ $# -gt 0 ] || set -- 3.11-newest 3.12-gpu 3.13-newest 3.11-lowest
commit=$(git describe --always --dirty --exclude='*')
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
for chosen in "$@"; do
  if ! python=$(launch/find_python.sh "${chosen%%-*}"); then
    echo "skipped: $chosen"
    continue
  fi
  echo "== $chosen"
  "$python" -m venv "$work/$chosen"
  "$work/$chosen/bin/pip" install -q -r "requirements/${chosen#*-}.txt"
  "$work/$chosen/bin/pip" install -q --no-deps -e .
  # Failed tests belong into the log; an interrupted run leaves no report and stops here.
  "$work/$chosen/bin/python" -m pytest -n 2 -q --junitxml="$work/$chosen.xml" || [ $? -eq 1 ]
  PYTHONPATH=. "$work/$chosen/bin/python" benchmarks/versions.py "$chosen" "$commit" \
    "$work/$chosen.xml"
done
