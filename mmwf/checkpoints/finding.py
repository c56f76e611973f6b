"""Finding the checkpoint to resume from."""

import os
import pickle
import re
import zipfile
from pathlib import Path

from mmwf.errors import UserError
from mmwf.files import write_text

from .integrity import check_intact
from .writing import CHECKPOINT_SUFFIX, digest_path

#: The file in a work dir that names its last checkpoint, as in MMEngine.
POINTER = 'last_checkpoint'
_SAVED_BY_HOOK = re.compile(r'((epoch|iter)_\d+|best_.+)\.pth')


class _Placeholder(dict):
    """Stands for an object that is no plain value; ignores its arguments, state and items."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


class _OutlineUnpickler(pickle.Unpickler):
    """Reads plain containers, numbers and texts; leaves out tensors and everything else."""

    def find_class(self, module, name):
        return _Placeholder

    def persistent_load(self, pid):
        return None


def write_pointer(work_dir: str | Path, checkpoint: str) -> None:
    """Makes a checkpoint the last one of a work dir; a folder that is moved stays valid.

    Args:
        work_dir: The folder of the pointer.
        checkpoint: Path or address of the checkpoint.
    """
    if '://' not in checkpoint:
        path, folder = os.path.abspath(checkpoint), os.path.abspath(work_dir)
        inside = os.path.commonpath([path, folder]) == folder
        checkpoint = os.path.relpath(path, folder) if inside else path
    write_text(Path(work_dir) / POINTER, checkpoint)


def read_pointer(work_dir: str | Path) -> str | None:
    """Returns the last checkpoint of a work dir according to its pointer, if there is one."""
    try:
        name = (Path(work_dir) / POINTER).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not name or not name.isprintable():
        return None
    return name if '://' in name else str(Path(work_dir) / name)


def saved_checkpoints(work_dir: str | Path) -> list[Path]:
    """Returns the checkpoints that a run has saved in a work dir, best ones included."""
    paths = {path for path in Path(work_dir).glob('*.pth') if _SAVED_BY_HOOK.fullmatch(path.name)}
    last = read_pointer(work_dir)
    if last and '://' not in last and Path(last).is_file():
        paths.add(Path(last))
    return sorted(paths)


def remove_checkpoints(work_dir: str | Path) -> list[Path]:
    """Removes the checkpoints that a run has saved in a work dir, with digests and pointer.

    Returns:
        The removed checkpoints.
    """
    paths = [path for path in saved_checkpoints(work_dir) if path.parent == Path(work_dir)]
    for path in (*paths, *map(digest_path, paths), Path(work_dir) / POINTER):
        path.unlink(missing_ok=True)
    return paths


def _candidates(work_dir: Path) -> list[Path]:
    """Returns the files that may be checkpoints to resume from: not those of the best model."""
    folders = [work_dir]
    last = read_pointer(work_dir)
    if last and '://' not in last and Path(last).parent != work_dir:
        folders.append(Path(last).parent)  # the hook's out_dir
    return [
        path
        for folder in folders
        for path in sorted(folder.glob(f'*{CHECKPOINT_SUFFIX}'))
        if path.is_file() and not path.name.startswith('best_')
    ]


def _read_time(path: Path) -> tuple[str, int] | None:
    """Returns when a training checkpoint was saved, and its iteration; reads no weights.

    Returns None for a file of weights, which training cannot be resumed from.
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        with archive.open(name) as content:
            checkpoint = _OutlineUnpickler(content).load()
    if not isinstance(checkpoint, dict) or 'message_hub' not in checkpoint:
        return None
    meta = checkpoint['meta']
    return meta.get('time', ''), meta['iter']


def find_newest(work_dir: str | Path) -> tuple[str | None, list[str]]:
    """Finds the newest checkpoint that training can be resumed from and that is not damaged.

    The pointer is not trusted: the checkpoint may be missing or damaged, and a newer one may have
    been saved before a kill. The order is that of the times in the checkpoints, which survive
    copying.

    Args:
        work_dir: The folder of the run.

    Returns:
        The checkpoint, or None if there is none; and for each damaged file what is wrong with it.

    Raises:
        UserError: If there are checkpoints, but all are damaged.
    """
    work_dir = Path(work_dir)
    times, skipped = {}, []
    for path in _candidates(work_dir):
        try:
            time = _read_time(path)
        except Exception as error:  # of any type: pickle and zipfile interpret damaged bytes
            size = path.stat().st_size
            skipped.append(f'{path} ({size} bytes) is damaged: {error or type(error).__name__}')
        else:
            if time is not None:
                times[path] = time
    for path in sorted(times, key=times.get, reverse=True):
        try:
            check_intact(path)
        except UserError as error:
            skipped.append(str(error))
        else:
            return str(path), skipped
    last = read_pointer(work_dir)
    if last and '://' in last:
        return last, skipped
    if skipped:
        raise UserError(
            f'There is nothing to resume in {work_dir}: all checkpoints are damaged. '
            + ' '.join(skipped)
        )
    return None, []
