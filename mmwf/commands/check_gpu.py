"""``mmwf check-gpu``: checks numerics, training, launchers and speed on this machine."""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from mmwf.analysis.device_check import SECTIONS, get_section
from mmwf.analysis.device_check.checks import Context
from mmwf.analysis.device_check.report import write_report
from mmwf.engine.device import choose_device
from mmwf.errors import UserError
from mmwf.files import write_text

from ._common import add_device_argument

GRACE = 30  # seconds that a section has beyond the time limit to end what it started


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Check numerics, training, launchers and speed on this machine, without '
        'network. Writes OUT/report.json and OUT/report.md. Without a GPU, everything runs on the '
        'CPU at toy size.'
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument(
        '--sections',
        nargs='+',
        choices=list(SECTIONS),
        default=list(SECTIONS),
        metavar='SECTION',
        help=f'run these only: {", ".join(SECTIONS)} (default: all)',
    )
    parser.add_argument(
        '--minutes', type=float, default=8.5, help='time limit for all sections (default: 8.5)'
    )
    add_device_argument(parser)
    # How the command starts itself for one section.
    parser.add_argument('--deadline', type=float, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _run_here(args: argparse.Namespace, device: str) -> None:
    """Runs one section in this process and writes ``OUT/SECTION.json``."""
    (name,) = args.sections
    context = Context(device=device, out=args.out, deadline=args.deadline)
    try:
        get_section(name)(context)
    finally:
        content = {key: asdict(context)[key] for key in ('checks', 'tables', 'info')}
        write_text(args.out / f'{name}.json', json.dumps(content, default=str))


def _run_apart(name: str, args: argparse.Namespace, device: str, deadline: float) -> dict:
    """Runs one section in its own process; returns its results."""
    result, log = args.out / f'{name}.json', args.out / f'{name}.log'
    result.unlink(missing_ok=True)
    command = [sys.executable, '-m', 'mmwf', 'check-gpu', str(args.out), '--sections', name]
    command += ['--device', device, '--deadline', str(deadline)]
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='-1') if device == 'cpu' else None
    start = time.time()
    with log.open('w') as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=max(deadline - start, 0) + GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    section = dict(checks=[], tables={}, info={})
    if result.is_file():
        section = json.loads(result.read_text())
        result.unlink()
    if code:
        lines = log.read_text(errors='replace').splitlines()
        section['error'] = '\n'.join([*lines[-15:], f'exit code {code}'])
        section['checks'].append(
            dict(name='completes', status='failed', measured=f'exit code {code}', bound=0)
        )
    return dict(section, seconds=round(time.time() - start, 1))


def main(argv: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: If a check failed; the report is written first.
    """
    args = parse_args(argv)
    device = args.device
    if device == 'cuda':
        choose_device(device, 'none')  # an error if there is none
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.out = args.out.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.deadline:
        _run_here(args, device)
        return
    start = time.time()
    results = dict(date=time.strftime('%Y-%m-%d'), device=device, seconds=0, sections={})
    for name in args.sections:
        section = _run_apart(name, args, device, start + 60 * args.minutes)
        results['sections'][name] = section
        results['seconds'] = round(time.time() - start, 1)
        write_report(results, args.out)  # after each section: what was measured is kept
        failed = [c['name'] for c in section['checks'] if c['status'] == 'failed']
        state = f'FAILED: {"; ".join(failed)}' if failed else 'ok'
        print(f'{name:<12} {section["seconds"]:>6.1f} s  {state}', flush=True)
    print(f'Report: {args.out / "report.md"}')
    if device == 'cpu':
        print('There is no GPU here: everything ran on the CPU at toy size.')
    failed = [
        c for s in results['sections'].values() for c in s['checks'] if c['status'] == 'failed'
    ]
    if failed:
        raise UserError(f'{len(failed)} checks failed; see {args.out / "report.md"}.')
