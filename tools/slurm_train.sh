#!/usr/bin/env bash
# Trains on a Slurm cluster, one task per GPU.
#
#   GPUS=16 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
#
# Also: CPUS_PER_TASK (default: 8), SRUN_ARGS (more arguments of srun).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 3 ] || { echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
slurm_launch "$partition" "$job" "$TOOLS/train.py" "$config" "$@"
