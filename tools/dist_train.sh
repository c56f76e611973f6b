#!/usr/bin/env bash
# Trains with one process per GPU; without GPUs, on the CPU with gloo.
#
#   bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#
# Several machines: run it on each with NNODES=4 NODE_RANK=0..3 MASTER_ADDR=FIRST_MACHINE PORT=29500.
# MAX_RESTARTS=3: if a process ends, starts all again, at most 3 times, from the newest checkpoint.
# Exit code: 75 if a signal has stopped it (130 after Ctrl-C): run it again with --resume.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2; exit 2; }
config=$1 gpus=$2
shift 2
launch "$gpus" "$TOOLS/train.py" "$config" "$@"
