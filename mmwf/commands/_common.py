"""Arguments that several commands share."""

import argparse

from mmengine.config import Config, DictAction

from mmwf.engine.config import compile_backbone, load_config
from mmwf.engine.device import choose_device


class Options(DictAction):
    """MMEngine's ``KEY=VALUE ...``, with a message instead of a traceback for other texts."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parses the options.

        Raises:
            SystemExit: If one is not ``KEY=VALUE``, or its brackets do not match.
        """
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (ValueError, AssertionError):
                parser.error(f'{option_string}: expected KEY=VALUE, got {value!r}')


def add_config_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds ``config`` and ``--cfg-options``.

    Args:
        parser: The parser.
        example: An override that users of this command need, for the help text.
    """
    parser.add_argument('config', help='config file, or the name of a shipped config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help=f'override settings of the config, e.g. {example}',
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument(
        '--device',
        choices=['auto', 'cuda', 'cpu'],
        default='auto',
        help='device to run on; auto is the GPU if there is one (default: auto)',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device`` and ``--launcher``."""
    add_device_argument(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run (default: none)',
    )


def add_compile_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--compile``."""
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile the backbone: minutes at the start, then faster; needs a C++ compiler, on a '
        'GPU also Triton',
    )


def read_config(args: argparse.Namespace) -> Config:
    """Checks the device and reads the config.

    Args:
        args: With the arguments of :func:`add_config_arguments` and :func:`add_run_arguments`, and
            perhaps of :func:`add_compile_argument`.

    Raises:
        UserError: If the device is not available, there is no such config, or its backbone cannot
            be compiled.
    """
    choose_device(args.device, args.launcher)
    cfg = load_config(args.config, args.cfg_options)
    if getattr(args, 'compile', False):
        compile_backbone(cfg)
    return cfg
