"""Reading MMEngine's logs."""

import json
import math
from pathlib import Path

from mmwf.errors import UserError

Curves = dict[str, dict[int, float]]  # values by key and iteration


def read_scalars(work_dir: str | Path) -> tuple[Curves, list[str]]:
    """Reads the logs ``TIMESTAMP/vis_data/scalars.json`` in a work dir.

    Logs of several timestamps are joined: a resumed run replaces the values from its first
    iteration on. Validation results are assigned to the last iteration logged before them, since
    their ``step`` is an iteration or an epoch, depending on the config. COCO's -1, for object sizes
    that do not occur, is omitted.

    Args:
        work_dir: The ``--work-dir`` of ``mmwf train``.

    Returns:
        The curves, and the keys of the validation metrics.

    Raises:
        UserError: If there are no logs.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(
            f'There are no logs {work_dir}/TIMESTAMP/vis_data/scalars.json. Give the work dirs of '
            'training runs.'
        )
    curves: Curves = {}
    metrics = []
    for file in files:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        first = next((record['iter'] for record in records if 'iter' in record), math.inf)
        for curve in curves.values():
            for iteration in [i for i in curve if i >= first]:
                del curve[iteration]
        iteration = 0
        for record in records:
            iteration = record.get('iter', iteration)
            ignored = {'iter', 'epoch', 'step'}
            if 'iter' not in record:
                ignored |= {'time', 'data_time'}  # of validation, not of training
                metrics += [key for key in record if key not in ignored and key not in metrics]
            for key in record.keys() - ignored:
                if not (key.startswith('coco/') and record[key] == -1):
                    curves.setdefault(key, {})[iteration] = record[key]
    return curves, metrics
