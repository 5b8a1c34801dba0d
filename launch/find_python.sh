#!/usr/bin/env bash
# Prints the interpreter of a Python version that really runs; fails if there is none.
#   launch/find_python.sh 3.13
# Version managers put a `python3.13` on the path that may refuse to start: pyenv's own are asked too.
set -uo pipefail
candidates=("python$1")
if command -v pyenv >/dev/null; then
  while read -r version; do
    candidates+=("$(pyenv prefix "$version")/bin/python")
  done < <(pyenv versions --bare | grep -E "^${1//./\\.}(\.|$)")
fi
for candidate in "${candidates[@]}"; do
  "$candidate" -c 'import sys, venv; print(sys.executable)' 2>/dev/null && exit 0
done
echo "no python$1 here that runs" >&2
exit 1
