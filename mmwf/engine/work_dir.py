"""One run at a time in a work dir, and no new run among the checkpoints of another."""

import errno
import json
import os
import socket
import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop

from mmwf.checkpoints import remove_checkpoints, saved_checkpoints
from mmwf.errors import UserError
from mmwf.files import remove_partial
from mmwf.registry import HOOKS

LOCK = 'run.lock'
_HELD: dict[Path, int] = {}  # descriptors of the lock files that this process has locked


def lock_work_dir(work_dir: str | Path) -> None:
    """Keeps other runs out of a work dir until this process ends, however it ends.

    The lock is one of POSIX: it holds between machines that share the folder, and the worker
    processes of data loaders do not inherit it. Without support by the file system it is left out.

    Args:
        work_dir: The folder; it is created.

    Raises:
        UserError: If a run is using the folder, or it cannot be written.
    """
    import fcntl

    folder = Path(work_dir).resolve()
    if folder in _HELD:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f'Cannot write to the work dir {work_dir}: {error.strerror}. Choose another one with '
            '--work-dir.'
        ) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = _describe_owner(os.read(file, 1000))
        os.close(file)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise UserError(
                f'Another run is using {work_dir}: {owner}. Wait for its end, or choose another '
                'folder with --work-dir.'
            ) from None
        print_log(f'{work_dir} cannot be locked: {error.strerror}.', logger='current')
        return
    since = time.strftime('%Y-%m-%d %H:%M:%S')
    owner = dict(host=socket.gethostname(), pid=os.getpid(), since=since)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(owner).encode())
    _HELD[folder] = file


def check_writable(work_dir: str | Path) -> None:
    """Checks that a work dir can be created or written, without creating it.

    Raises:
        UserError: If it cannot.
    """
    folder = Path(work_dir).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = 'may not be written' if folder.is_dir() else 'is not a folder'
        raise UserError(
            f'Cannot write to the work dir {work_dir}: {folder} {reason}. Choose another one with '
            '--work-dir.'
        )


def unlock_work_dir(work_dir: str | Path) -> None:
    """Lets other runs into a work dir that this process has locked."""
    file = _HELD.pop(Path(work_dir).resolve(), None)
    if file is not None:
        os.ftruncate(file, 0)
        os.close(file)


def _describe_owner(content: bytes) -> str:
    try:
        owner = json.loads(content)
        return f'process {owner["pid"]} on {owner["host"]}, since {owner["since"]}'
    except (ValueError, KeyError, TypeError):
        return 'a process that has just started'


def check_unused(work_dir: str | Path) -> None:
    """Checks that a new run would not start among the checkpoints of another.

    Raises:
        UserError: If there are checkpoints.
    """
    if saved := saved_checkpoints(work_dir):
        names = ', '.join(path.name for path in saved[:3]) + ', ...' * (len(saved) > 3)
        raise UserError(
            f'{work_dir} holds the checkpoints of a run ({names}). Continue that run with '
            '--resume, write to another folder with --work-dir NEW, or remove them and start anew '
            'with --overwrite (without mmwf train: default_hooks.work_dir.overwrite=True).'
        )


@HOOKS.register_module()
class WorkDirHook(Hook):
    """Refuses to train in a work dir that another run is using or has used.

    Also removes the partial files that a killed run left there.

    Args:
        overwrite: Whether a new run may start in a work dir that holds checkpoints, which are then
            removed.
    """

    priority = 'VERY_HIGH'

    def __init__(self, overwrite: bool = False):
        self.overwrite = overwrite

    def before_run(self, runner) -> None:
        """Locks the work dir, if this is a training.

        Raises:
            UserError: If another run is using it, or it holds the checkpoints of one that is not
                resumed.
        """
        if is_main_process() and isinstance(runner._train_loop, BaseLoop):
            lock_work_dir(runner.work_dir)
            if not (runner._resume or self.overwrite):
                check_unused(runner.work_dir)

    def before_train(self, runner) -> None:
        """Removes partial files, and with ``overwrite`` the checkpoints of an earlier run."""
        if not is_main_process():
            return
        for path in remove_partial(runner.work_dir):
            runner.logger.info(f'Removed {path}, which an interrupted run left incomplete.')
        if self.overwrite and not runner._resume:
            for path in remove_checkpoints(runner.work_dir):
                runner.logger.warning(f'Removed {path} of an earlier run (overwrite=True).')

    def after_run(self, runner) -> None:
        """Unlocks the work dir."""
        if is_main_process():
            unlock_work_dir(runner.work_dir)
