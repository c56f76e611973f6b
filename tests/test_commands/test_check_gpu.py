"""``mmwf check-gpu``: its rehearsal on a CPU, and what it does about failures."""

import json
import math
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, run

from mmwf.analysis.device_check import SECTIONS, get_section, runs
from mmwf.analysis.device_check.checks import Context
from mmwf.analysis.device_check.report import format_report
from mmwf.commands import check_gpu
from mmwf.errors import UserError


@pytest.fixture
def context(tmp_path):
    return Context(device='cpu', out=tmp_path, deadline=time.time() + 300)


@pytest.mark.slow
def test_the_rehearsal_on_a_cpu_passes(tmp_path):
    printed = run(
        'bash',
        ROOT / 'tools/check_gpu.sh',
        tmp_path,
        '--device',
        'cpu',
        '--minutes',
        30,
        timeout=1800,
    )
    assert 'everything ran on the CPU at toy size' in printed
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['device'] == 'cpu' and list(report['sections']) == list(SECTIONS)
    checks = {name: section['checks'] for name, section in report['sections'].items()}
    assert all(checks.values()), 'every section checks something'
    assert not [c for section in checks.values() for c in section if c['status'] == 'failed']
    tables = report['sections']
    tasks = {row['task'] for row in tables['quickstart']['tables']['quick start']}
    assert tasks == {'classification', 'detection', 'segmentation', 'generation'}
    speed = tables['speed']['tables']['speed']
    assert {(row['model'], row['mode']) for row in speed} == {
        (model, mode)
        for model in ('timm:deit_tiny_patch16_224', 'weightformer-tiny')
        for mode in ('forward', 'forward-backward')
    }
    assert all(row['images_per_second'] > 0 for row in speed)
    text = (tmp_path / 'report.md').read_text()
    assert 'There is no GPU here' in text and '**FAILED**' not in text


@pytest.mark.parametrize('name', ['environment', 'golden', 'precision', 'operations'])
def test_a_section_passes_on_a_cpu(context, name):
    get_section(name)(context)
    assert context.checks
    assert [check for check in context.checks if check['status'] == 'failed'] == []


def test_a_wrong_operation_fails_the_section(context, monkeypatch):
    from mmwf.ops import eager

    right = eager.dynamic_linear
    monkeypatch.setattr(eager, 'dynamic_linear', lambda *args: 1.001 * right(*args))
    get_section('operations')(context)
    failed = [check['name'] for check in context.checks if check['status'] == 'failed']
    assert 'dynamic_linear: output and gradients' in failed
    assert not any('dwconv' in name for name in failed)


def test_an_error_above_its_bound_or_nan_fails(context):
    for error in (0.1, 0.3, math.nan):
        context.add_error('check', error, 0.2)
    assert [check['status'] for check in context.checks] == ['passed', 'failed', 'failed']


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Makes the sections run by a script instead of Python."""

    def use(script):
        path = tmp_path / 'python'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(check_gpu.sys, 'executable', str(path))

    return use


def test_a_section_that_crashes_does_not_stop_the_others(tmp_path, python):
    python(f'case "$*" in *golden*) echo boom; exit 3;; *) exec {sys.executable} "$@";; esac')
    out = tmp_path / 'out'
    with pytest.raises(UserError, match=r'1 checks failed; see .*report\.md'):
        check_gpu.main([str(out), '--sections', 'environment', 'golden', 'operations'])
    report = json.loads((out / 'report.json').read_text())
    assert list(report['sections']) == ['environment', 'golden', 'operations']
    assert report['sections']['golden']['error'].splitlines() == ['boom', 'exit code 3']
    for name in ('environment', 'operations'):
        assert {c['status'] for c in report['sections'][name]['checks']} == {'passed'}
    text = (out / 'report.md').read_text()
    assert '**FAILED**' in text and 'boom' in text


def test_a_section_that_hangs_is_ended(tmp_path, python, monkeypatch):
    python('sleep 60')
    monkeypatch.setattr(check_gpu, 'GRACE', 0.2)
    start = time.time()
    with pytest.raises(UserError, match='1 checks failed'):
        check_gpu.main([str(tmp_path / 'out'), '--sections', 'golden', '--minutes', '0'])
    assert time.time() - start < 20


def is_running(pid):
    try:
        status = Path(f'/proc/{pid}/status').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return 'State:\tZ' not in status  # an orphan whose exit code nobody has collected


def test_a_command_out_of_time_is_ended_with_what_it_started(context):
    command = ['bash', '-c', 'sleep 60 & echo $!; wait']
    process, log = runs._start(context, 'hang', command), context.out / 'hang.log'
    while not log.read_text().endswith('\n'):
        time.sleep(0.01)
    context.deadline = time.time()
    assert not runs._finish(context, 'hang', process)
    assert [c['measured'] for c in context.checks] == ['out of time']
    child, patience = int(log.read_text()), time.time() + 10
    while is_running(child):
        assert time.time() < patience
        time.sleep(0.01)


def test_a_command_that_fails_fails_its_section(context):
    process = runs._start(context, 'bad', ['bash', '-c', 'exit 3'])
    assert not runs._finish(context, 'bad', process)
    assert [(c['status'], c['measured']) for c in context.checks] == [('failed', 3)]


def test_what_a_section_found_before_it_failed_is_kept(tmp_path, monkeypatch):
    def section(context):
        context.add('the first check', True)
        raise RuntimeError('out of memory')

    monkeypatch.setattr(check_gpu, 'get_section', lambda name: section)
    with pytest.raises(RuntimeError):
        check_gpu.main([str(tmp_path), '--sections', 'golden', '--deadline', '1'])
    content = json.loads((tmp_path / 'golden.json').read_text())
    assert [check['name'] for check in content['checks']] == ['the first check']


def test_the_report_gives_ratios_to_the_first_model_of_each_setting():
    rows = [
        dict(model=model, size=64, mode=mode, compiled=False, batch_size=2, images_per_second=speed)
        for mode, speeds in (('forward', (10.0, 20.0)), ('forward-backward', (4.0, 1.0)))
        for model, speed in zip(('a', 'b'), speeds, strict=True)
    ]
    section = dict(checks=[], info={}, tables=dict(speed=rows), seconds=1.0)
    text = format_report(
        dict(device='cuda', date='2026-01-01', seconds=1.0, sections=dict(speed=section))
    )
    assert '| 64 | forward | False | 2 | b | 20 | 2 |' in text
    assert '| 64 | forward-backward | False | 2 | b | 1 | 0.25 |' in text
