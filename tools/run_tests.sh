#!/usr/bin/env bash
# Sets up .venv if needed and runs the tests in several processes.
#
#   bash tools/run_tests.sh [--upstream] [pytest arguments]
#
# --upstream: with upstream's OpenMMLab packages, in .venv-upstream.
set -euo pipefail
family=maintained
if [ "${1:-}" = --upstream ]; then
  family=upstream
  shift
fi
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" "$family"
cd "$MMWF_ROOT"
# One thread per process: with small models, several processes are faster than several threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$MMWF_PYTHON" -m pytest -n auto --maxprocesses 4 "$@"
