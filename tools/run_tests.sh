#!/usr/bin/env bash
# Sets up .venv if needed and runs the tests in several processes.
#
#   bash tools/run_tests.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$MMWF_ROOT"
# One thread per process: with small models, several processes are faster than several threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 "$@"
