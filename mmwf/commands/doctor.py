"""``mmwf doctor``: what is installed here, what fits together, and how to fix the rest."""

import argparse
import json
from dataclasses import asdict

from mmwf.analysis.doctor import describe, diagnose, format_block, format_findings
from mmwf.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Check Python, packages, GPUs, threads, memory, folders and data, and say how '
        'to fix what is broken. The exit code is 1 if something is broken.'
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs',
        metavar='DIR',
        help='folder that runs write to (default: work_dirs)',
    )
    parser.add_argument(
        '--no-data', action='store_true', help='do not check data/imagenet, data/coco and data/ade'
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: If something is broken; what was found is printed first.
    """
    args = parse_args(argv)
    findings = diagnose(args.work_dir, with_data=not args.no_data)
    environment = describe()
    broken = [finding.subject for finding in findings if finding.state == 'broken']
    if args.json:
        content = dict(
            ok=not broken, findings=[asdict(f) for f in findings], environment=environment
        )
        print(json.dumps(content, indent=2))
    else:
        print(format_findings(findings))
        print(f'\nFor a bug report, copy this:\n\n{format_block(environment, findings)}\n')
    if broken:
        raise UserError(f'{len(broken)} broken: {", ".join(broken)}.')
