"""Arguments of the commands that read pictures of users, and what is said of unreadable ones."""

import argparse
import sys

from mmengine.config import Config
from tqdm import tqdm

from mmwf.checkpoints import check_checkpoint
from mmwf.datasets.inputs import Source, find_sources
from mmwf.engine.config import load_config
from mmwf.engine.device import choose_device, set_up_processes
from mmwf.errors import UserError

from ._common import add_config_arguments, add_device_argument


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``config``, ``checkpoint``, ``inputs`` and the options of reading and running."""
    add_config_arguments(parser, 'model.test_cfg.rcnn.max_per_img=300')
    parser.add_argument('checkpoint', help='checkpoint or released weights')
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='pictures: files, folders (the images in them and in their sub-folders), patterns in '
        'quotes such as "photos/**/*.jpg", http(s):// addresses, and videos, of which every frame '
        'is a picture',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='pictures per forward pass; only those of the same size after the test pipeline are '
        'batched (default: 1)',
    )
    parser.add_argument(
        '--frame-step',
        type=int,
        default=1,
        metavar='N',
        help='read only every N-th frame of a video (default: 1)',
    )
    add_device_argument(parser)


def read_picture_arguments(
    args: argparse.Namespace, out_folder: str | None
) -> tuple[Config, list[Source]]:
    """Returns the config, adapted to the machine, and the pictures.

    Args:
        args: With the arguments of :func:`add_picture_arguments`.
        out_folder: The folder of the output, in which no pictures are looked for.

    Raises:
        UserError: If a file does not exist, a number is out of range, or there is no such device.
    """
    if min(args.batch_size, args.frame_step) < 1:
        raise UserError('Expected --batch-size and --frame-step of 1 or more.')
    choose_device(args.device, 'none')
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    sources = find_sources(args.inputs, out_folder)
    set_up_processes(cfg, 'none')
    return cfg, sources


class Failures:
    """The pictures that could not be read; each is named at once on stderr."""

    def __init__(self):
        self.entries: list[dict] = []

    def __call__(self, source: Source, error: UserError) -> None:
        """Adds a picture."""
        self.entries.append(dict(input=source.path, error=str(error)))
        tqdm.write(f'skipped: {error}', file=sys.stderr)

    def check(self, number: int, record: str) -> None:
        """Raises a UserError if there are any.

        Args:
            number: Number of sources.
            record: The file that lists the failures.
        """
        if self.entries:
            raise UserError(
                f'{len(self.entries)} of {number} inputs could not be read; they are listed under '
                f'"failed" in {record}.'
            )


def count_pictures(sources: list[Source]) -> int | None:
    """Returns the number of pictures, for a progress bar; None if there are videos."""
    return None if any(source.is_video for source in sources) else len(sources)
