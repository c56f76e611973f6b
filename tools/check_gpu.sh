#!/usr/bin/env bash
# Checks a machine in one call of at most nine minutes on one GPU, without network: numerics against the
# released model and float64, mixed precision, compilation, the quick start, NCCL, throughput.
#
#   bash tools/check_gpu.sh OUT [arguments of tools/analysis_tools/check_gpu.py]
#
# Results: OUT/report.md and OUT/report.json. Without a GPU everything runs on the CPU at toy size.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
[ $# -ge 1 ] || { echo "usage: $0 OUT [arguments of tools/analysis_tools/check_gpu.py]" >&2; exit 2; }
exec "$PYTHON" "$TOOLS/analysis_tools/check_gpu.py" "$@"
