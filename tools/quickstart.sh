#!/usr/bin/env bash
# Sets up .venv if needed, then trains and tests small models on included data.
#
#   bash tools/quickstart.sh [TASK ...]    # by default all tasks
#
# Writes work_dirs/quickstart/summary.json and one plot per task.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" maintained
cd "$MMWF_ROOT"
exec "$MMWF_PYTHON" tools/quickstart.py "$@"
