#!/usr/bin/env bash
# Samples with one process per GPU; without GPUs, on the CPU with gloo.
#
#   bash tools/dist_sample.sh CONFIG CHECKPOINT GPUS [arguments of tools/sample.py]
#
# Several machines: run it on each with NNODES=4 NODE_RANK=0..3 MASTER_ADDR=FIRST_MACHINE PORT=29500.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/sample.py]" >&2; exit 2; }
config=$1 checkpoint=$2 gpus=$3
shift 3
launch "$gpus" "$TOOLS/sample.py" "$config" "$checkpoint" "$@"
