"""Installs mmcv._ext before the test files import mmcv.ops."""

import mmwf  # noqa: F401
