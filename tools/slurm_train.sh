#!/usr/bin/env bash
# Trains on a Slurm cluster, one task per GPU.
#
#   GPUS=16 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
#
# Without GPUs, on CPUs with gloo: GRES= GPUS=2 GPUS_PER_NODE=1 bash tools/slurm_train.sh ...
#
# Also, in the environment:
#   GPUS           number of tasks (default: 8)
#   GPUS_PER_NODE  tasks per node (default: 8, or GPUS if that is less)
#   GRES           argument of --gres (default: gpu:GPUS_PER_NODE); empty on clusters that have none
#   CPUS_PER_TASK  default: 8
#   PORT           on the first node (default: derived from the job ID)
#   MASTER_ADDR    address of the first node, if its name cannot be resolved
#   SRUN_ARGS      more arguments of srun
#   SIGNAL         signal and seconds ahead of the time limit (default: USR1@120)
#
# Ahead of its time limit a run saves a checkpoint and exits with 75; run it again with --resume. A batch job
# does that by itself:
#
#   sbatch --signal=USR1@120 --requeue --ntasks=16 --ntasks-per-node=8 --gres=gpu:8 --time=24:00:00 \
#       --wrap 'GPUS=16 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG'
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 3 ] || { echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || set -- "$@" --resume
if [ -z "${SLURM_JOB_ID:-}" ]; then SRUN_ARGS="--signal=${SIGNAL:-USR1@120} ${SRUN_ARGS:-}"; fi
code=0
slurm_launch "$partition" "$job" "$TOOLS/train.py" "$config" "$@" || code=$?
if [ $code -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then _requeue; fi
exit $code
