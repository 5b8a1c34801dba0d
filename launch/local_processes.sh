#!/usr/bin/env bash
# One run over several processes of this host (loopback): launch/local_processes.sh 2 CONFIG [options]
set -euo pipefail
cd "$(dirname "$0")/.."
num=${1:?usage: launch/local_processes.sh NUM CONFIG[:words] [options]}
config=${2:?usage: launch/local_processes.sh NUM CONFIG[:words] [options]}
shift 2
export MIXBOOST_COORDINATOR=127.0.0.1:${PORT:-12355} MIXBOOST_NUM_PROCESSES=$num
pids=()
for rank in $(seq 0 $((num - 1))); do
  MIXBOOST_PROCESS_ID=$rank python -m mixboost_jax.main --config="$config" "$@" &
  pids+=($!)
done
trap : INT # Ctrl-C reaches the processes as well; wait for them to save
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
status=0
for pid in "${pids[@]}"; do
  while true; do
    code=0
    wait "$pid" || code=$?
    kill -0 "$pid" 2>/dev/null || break # the wait was over because of a signal
  done
  if [ "$code" -gt "$status" ]; then status=$code; fi
done
exit "$status"
