#!/usr/bin/env bash
# Sets up .venv if need be and runs the tests.
#
#   bash tools/run_tests.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$MMWF_ROOT"
exec .venv/bin/python -m pytest "$@"
