#!/usr/bin/env bash
# Sets up .venv if need be, then trains and tests small models on data that come with the project.
#
#   bash tools/quickstart.sh [TASK ...]        all tasks without an argument
#
# Results: work_dirs/quickstart/summary.json and one picture per task.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$MMWF_ROOT"
exec .venv/bin/python tools/quickstart.py "$@"
