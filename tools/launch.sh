#!/usr/bin/env bash
# Sourced by dist_*.sh and slurm_*.sh: chooses Python and starts the processes.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${PYTHON:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
  PYTHON=$TOOLS/../.venv/bin/python
fi
PYTHON=${PYTHON:-python}

_refuse() {
  echo "error: $*" >&2
  exit 2
}

# _set_threads COUNT: threads per process, unless already set. torchrun and MMEngine warn if unset.
_set_threads() {
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$1}
  export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
}

# launch PROCESSES SCRIPT [ARGUMENT ...]
launch() {
  local processes=$1 nodes=${NNODES:-1} restarts=${MAX_RESTARTS:-0} where
  shift
  [[ $restarts =~ ^[0-9]+$ ]] || _refuse "Expected MAX_RESTARTS to be a number, got $restarts."
  [[ $nodes =~ ^[1-9][0-9]*$ ]] || _refuse "Expected NNODES to be a number of machines, got $nodes."
  if [ "$nodes" -gt 1 ]; then
    [ "$restarts" -eq 0 ] || _refuse "MAX_RESTARTS=$restarts restarts the processes of one machine only; got NNODES=$nodes."
    [ -n "${MASTER_ADDR:-}" ] || _refuse "NNODES=$nodes needs MASTER_ADDR: the name or IP address of the" \
      'machine with NODE_RANK=0, the same on all machines. It is not set.'
    [[ ${NODE_RANK:-} =~ ^[0-9]+$ ]] && [ "$NODE_RANK" -lt "$nodes" ] || _refuse "NNODES=$nodes needs" \
      "NODE_RANK: 0 on the machine of MASTER_ADDR, then 1 to $((nodes - 1)). Got ${NODE_RANK:-none}."
  fi
  if [ "$nodes" -eq 1 ] && [ -z "${PORT:-}" ]; then
    where=(--standalone)  # on a free port
    # A store for each start: in torchrun's shared one, restarted processes read the addresses of lost ones.
    [ "$restarts" -eq 0 ] || export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  else
    where=(--nnodes "$nodes" --node-rank "${NODE_RANK:-0}"
      --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
  fi
  _set_threads 1
  _run_with_signals "$PYTHON" -m torch.distributed.run "${where[@]}" \
    --nproc-per-node "$processes" --max-restarts "$restarts" "$@" --launcher pytorch
}

# _run_with_signals COMMAND ...: runs torchrun and exits with its code. It gets SIGTERM for each signal, since
# it does not know SIGUSR1; the code is then 75 (130 after Ctrl-C), as that of one process, where torchrun's is 1.
_run_with_signals() {
  local code=0 stopped=0 child
  set -m  # a process group of its own: Ctrl-C reaches this script only
  "$@" &
  child=$!
  set +m
  trap 'stopped=130; kill -TERM $child 2>/dev/null || true' INT
  trap 'stopped=75; kill -TERM $child 2>/dev/null || true' TERM HUP USR1
  while kill -0 $child 2>/dev/null; do
    code=0
    wait $child || code=$?
  done
  if [ $code -ne 0 ] && [ $stopped -ne 0 ]; then code=$stopped; fi
  exit $code
}

# _requeue: requeues this batch job, unless it is being cancelled.
_requeue() {
  if scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
    echo "Requeueing job $SLURM_JOB_ID, which will resume."
    scontrol requeue "$SLURM_JOB_ID"
  fi
}

# slurm_launch PARTITION JOB_NAME SCRIPT [ARGUMENT ...]
slurm_launch() {
  local partition=$1 job=$2 gpus=${GPUS:-8} cpus=${CPUS_PER_TASK:-8} per_node gres
  shift 2
  per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
  gres=${GRES-gpu:$per_node}  # empty: no --gres
  _set_threads "$cpus"
  # Without PORT, mmwf/processes.py derives it from the job ID.
  [ -z "${PORT:-}" ] || export MASTER_PORT=$PORT
  # shellcheck disable=SC2086  # SRUN_ARGS is a list of words
  srun -p "$partition" --job-name="$job" ${gres:+"--gres=$gres"} --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} "$PYTHON" -u "$@" --launcher slurm
}
