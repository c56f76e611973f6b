"""How many cases the tests with random inputs try: ``MMWF_FUZZ_CASES``, by default a few."""

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get('MMWF_FUZZ_CASES', 0))


def cases(default):
    """Settings of a test that by default tries this number of inputs, the same in each run.

    With ``MMWF_FUZZ_CASES=5000``, it tries 5,000, and others in each run.
    """
    return settings(
        max_examples=CASES or default,
        derandomize=not CASES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
