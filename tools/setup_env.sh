#!/usr/bin/env bash
# Creates a virtual environment in the project root with the pinned versions, unless it is up to date.
# Sourced by quickstart.sh and run_tests.sh with the family of OpenMMLab packages: "maintained" (.venv)
# or "upstream" (.venv-upstream). $PYTHON selects the interpreter. Sets MMWF_ROOT and MMWF_PYTHON.

_mmwf_find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.10 python; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  echo 'Found no Python 3.10, 3.11 or 3.12 with venv. Install one (Debian, Ubuntu: apt install' \
    'python3 python3-venv), or set its path: PYTHON=/path/to/python3.12' >&2
  return 1
}

_mmwf_setup() {
  local root=$1 family=$2 suffix= venv constraints python wanted stamp
  [ "$family" = maintained ] || suffix=-$family
  venv=$root/.venv$suffix constraints=$root/requirements/constraints$suffix.txt
  MMWF_PYTHON=$venv/bin/python
  wanted=$(cat "$root"/requirements/{runtime,export,tests,"$family"}.txt "$constraints" "$root"/setup.py \
    "$root"/tools/setup_env.sh | cksum)
  stamp=$venv/.mmwf-setup-done
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$root $wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    return 0
  fi
  python=$(_mmwf_find_python) || return 1
  echo "[setup] $("$python" --version) -> .venv$suffix (about 5 GB to download the first time)"
  rm -f "$stamp"
  # The paths inside an environment that was moved or copied are wrong.
  if ! grep -qsF "$venv" "$venv/bin/activate" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || return 1
  fi
  # Environment variables, since they also apply to the isolated builds of source archives.
  export PIP_CONSTRAINT=$constraints PIP_DISABLE_PIP_VERSION_CHECK=1
  export MMCV_WITH_OPS=0
  echo '[setup] installing the pinned packages'
  "$venv/bin/python" -m pip install -q --progress-bar off setuptools wheel || return 1
  "$venv/bin/python" -m pip install --progress-bar off \
    -r "$root/requirements/runtime.txt" -r "$root/requirements/$family.txt" \
    -r "$root/requirements/export.txt" -r "$root/requirements/tests.txt" \
    | grep --line-buffered -E '^(Collecting|Installing|Building) ' | cut -c1-160
  [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
  # The packages above require the build of OpenCV that needs libGL, which servers lack. The headless
  # one must overwrite it.
  "$venv/bin/python" -m pip install -q --progress-bar off --no-deps --force-reinstall opencv-python-headless || return 1
  "$venv/bin/python" -m pip install -q --progress-bar off --no-deps --no-build-isolation -e "$root" || return 1
  unset PIP_CONSTRAINT MMCV_WITH_OPS
  "$venv/bin/python" -c 'import cv2, mmwf' || return 1
  echo "$root $wanted" > "$stamp"
  echo '[setup] done'
}

MMWF_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if ! _mmwf_setup "$MMWF_ROOT" "$1"; then
  echo '[setup] failed, see the messages above. Run the same command again to continue.' >&2
  exit 1
fi
