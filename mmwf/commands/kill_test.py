"""``mmwf kill-test``: kills and resumes a training and compares it with one that was not killed."""

import argparse

from mmwf.analysis.kill_test import run_kill_test
from mmwf.config_files import find_config
from mmwf.errors import UserError


def parse_args(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description='Train twice: without interruption, and killed (SIGKILL) at random moments and '
        'resumed. The last checkpoints must be the same, bit by bit.',
        epilog='Further arguments go to mmwf train.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config')
    parser.add_argument(
        '--kills', type=int, default=20, metavar='N', help='number of kills (default: 20)'
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=1,
        metavar='N',
        help='processes of a distributed run (default: 1)',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/kill_test',
        metavar='DIR',
        help='write both trainings and their logs to DIR (default: work_dirs/kill_test)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, metavar='N', help='seed of the moments (default: 0)'
    )
    return parser.parse_known_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args, arguments = parse_args(argv)
    if args.kills < 1 or args.processes < 1:
        raise UserError('Expected --kills and --processes of at least 1.')
    result = run_kill_test(
        str(find_config(args.config)),
        args.work_dir,
        arguments,
        args.kills,
        args.processes,
        args.seed,
    )
    kills = (
        f'{result.kills} kills, {result.starting} of them before training had started, and '
        f'{result.resumed} resumes from a checkpoint'
    )
    if result.different:
        raise UserError(
            f'After {kills}, {len(result.different)} values differ from those of the run without '
            f'kills: {", ".join(result.different[:5])}.'
        )
    print(f'After {kills}, weights and states of the optimizer are identical.')
