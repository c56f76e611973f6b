#!/usr/bin/env bash
# Sourced by dist_*.sh and slurm_*.sh: chooses Python and starts the processes.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${PYTHON:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
  PYTHON=$TOOLS/../.venv/bin/python
fi
PYTHON=${PYTHON:-python}

# launch PROCESSES SCRIPT [ARGUMENT ...]
launch() {
  local processes=$1 nodes=${NNODES:-1} where
  shift
  if [ "$nodes" -eq 1 ] && [ -z "${PORT:-}" ]; then
    where=(--standalone)  # on a free port
  else
    where=(--nnodes "$nodes" --node-rank "${NODE_RANK:-0}"
      --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
  fi
  # One thread per process is also torchrun's default, but setting it silences its warning.
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} exec "$PYTHON" -m torch.distributed.run \
    "${where[@]}" --nproc-per-node "$processes" "$@" --launcher pytorch
}

# slurm_launch PARTITION JOB_NAME SCRIPT [ARGUMENT ...]
slurm_launch() {
  local partition=$1 job=$2 gpus=${GPUS:-8} per_node
  shift 2
  per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
  # shellcheck disable=SC2086  # SRUN_ARGS is a list of words
  exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} "$PYTHON" -u "$@" --launcher slurm
}
