"""``mmwf check-gpu``: its rehearsal on a CPU, and what it does about failures."""

import json
import math
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, run

from mmwf.analysis.device_check import SECTIONS, get_section, runs, training
from mmwf.analysis.device_check.checks import Context
from mmwf.analysis.device_check.numerics import matmul_precision
from mmwf.analysis.device_check.report import format_report
from mmwf.commands import check_gpu
from mmwf.engine import AmpOptimWrapper
from mmwf.errors import UserError
from mmwf.ops import eager


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


def test_the_kernels_section_needs_a_gpu(context):
    get_section('kernels')(context)
    assert [check['status'] for check in context.checks] == ['skipped']


def test_a_wrong_operation_fails_the_section(context, monkeypatch):
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


def test_the_sections_share_one_deadline_and_see_no_gpu_where_the_cpu_is_chosen(tmp_path, python):
    python(f'echo "$CUDA_VISIBLE_DEVICES $*" >> {tmp_path}/calls')
    out = tmp_path / 'out'
    check_gpu.main([str(out), '--sections', 'environment', 'golden', '--device', 'cpu'])
    calls = [line.split() for line in (tmp_path / 'calls').read_text().splitlines()]
    assert len(calls) == 2 and {visible for visible, *_ in calls} == {'-1'}
    assert len({deadline for *_, deadline in calls}) == 1


def test_the_report_is_there_before_the_last_section(tmp_path, python):
    out = tmp_path / 'out'
    python(f'case "$*" in *golden*) test -f {out}/report.md;; esac')
    check_gpu.main([str(out), '--sections', 'environment', 'golden'])


def test_results_of_an_earlier_run_do_not_count(tmp_path, python):
    python('exit 3')
    earlier = dict(checks=[dict(name='old', status='passed')], tables={}, info={})
    (tmp_path / 'golden.json').write_text(json.dumps(earlier))
    with pytest.raises(UserError, match='1 checks failed'):
        check_gpu.main([str(tmp_path), '--sections', 'golden'])
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [c['status'] for c in report['sections']['golden']['checks']] == ['failed']


@pytest.mark.parametrize(
    ('factor', 'failing'), [(1.0003, {'fp32'}), (1.5, {'fp32', 'fp16', 'bf16'})]
)
def test_the_bounds_of_each_precision_are_those_of_its_rounding(
    context, monkeypatch, factor, failing
):
    right = eager.dynamic_linear

    def wrong(x, *args):  # on the device, but not in the float64 reference
        return right(x, *args) * (1 if x.dtype == torch.float64 else factor)

    monkeypatch.setattr(eager, 'dynamic_linear', wrong)
    get_section('precision')(context)
    failed = {c['name'].split()[0] for c in context.checks if c['status'] == 'failed'}
    assert failed == failing


def test_fp32_is_compared_with_a_reference_of_higher_precision(context):
    get_section('precision')(context)
    errors = [c['measured'] for c in context.checks if c['name'].startswith('fp32')]
    assert len(errors) == 4 and all(1e-9 < error < 1e-5 for error in errors)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_golden_tensors_notice_an_error_above_the_bounds(context, monkeypatch, dtype):
    right, error = eager.dynamic_linear, 3e-4 if dtype == torch.float32 else 1e-7

    def wrong(x, *args):
        return right(x, *args) * (1 + error * (x.dtype == dtype))

    monkeypatch.setattr(eager, 'dynamic_linear', wrong)
    get_section('golden')(context)
    failed = [c['name'] for c in context.checks if c['status'] == 'failed']
    expected = [c['name'] for c in context.checks if str(dtype).removeprefix('torch.') in c['name']]
    assert failed == expected and len(failed) == 5


def test_training_that_raises_the_loss_fails(context, monkeypatch):
    def grow(wrapper, loss):
        for group in wrapper.optimizer.param_groups:
            for parameter in group['params']:
                parameter.data.mul_(1.5)

    training._check_steps(context, 'bfloat16')
    monkeypatch.setattr(AmpOptimWrapper, 'update_params', grow)
    training._check_steps(context, 'bfloat16')
    assert [check['status'] for check in context.checks] == ['passed', 'failed']


def test_the_precision_of_products_is_restored():
    with matmul_precision('high'):
        assert torch.get_float32_matmul_precision() == 'high'
        assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == 'highest'
    assert not torch.backends.cudnn.allow_tf32


def test_a_metric_of_the_quick_start_below_its_target_fails_on_a_gpu(context, monkeypatch):
    context.device = 'cuda'
    started = []
    monkeypatch.setattr(runs, '_start', lambda context, name, command: started.append(name))
    monkeypatch.setattr(runs, '_end', lambda process: None)
    monkeypatch.setattr(runs, '_finish', lambda *args: True)
    for name, targets in runs.TARGETS.items():
        folder = context.out / 'runs/work_dirs/quickstart' / name
        folder.mkdir(parents=True)
        values = {m: target - 0.1 * (m == 'mIoU') for m, target in targets.items()}
        (folder / 'summary.json').write_text(json.dumps(values))
    runs.quickstart(context)
    assert started == ['classification', 'detection', 'segmentation', 'generation']
    failed = [c['name'] for c in context.checks if c['status'] == 'failed']
    assert failed == ['segmentation: mIoU'] and len(context.checks) == 5


def test_the_report_counts_and_marks_the_checks(context):
    context.add('good', True, 0.5, 1)
    context.add('bad', False)
    context.skip('elsewhere', 'needs CUDA')
    section = dict(checks=context.checks, info={}, tables={}, seconds=1.0)
    text = format_report(dict(device='cpu', date='', seconds=1.0, sections=dict(golden=section)))
    assert '1 checks passed, 1 failed, 1 skipped' in text
    assert '| good | ok | 0.5 | 1 |' in text
    assert '| bad | **FAILED** |' in text and '| elsewhere | skipped | needs CUDA |' in text


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
        dict(
            model=model,
            size=64,
            mode=mode,
            compiled=False,
            batch_size=2,
            images_per_second=speed,
            seconds=[2 / speed],
            memory_per_image_mib=1.0,
        )
        for mode, speeds in (('forward', (10.0, 20.0)), ('forward-backward', (4.0, 1.0)))
        for model, speed in zip(('a', 'b'), speeds, strict=True)
    ]
    section = dict(checks=[], info={}, tables=dict(speed=rows), seconds=1.0)
    text = format_report(
        dict(device='cuda', date='2026-01-01', seconds=1.0, sections=dict(speed=section))
    )
    assert '| 64 | forward | False | 2 | b | 20 | 2 |' in text
    assert '| 64 | forward-backward | False | 2 | b | 1 | 0.25 |' in text


def test_cuda_without_a_gpu_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(check_gpu.torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match=r'--device cuda'):
        check_gpu.main([str(tmp_path / 'out'), '--device', 'cuda'])
    assert not (tmp_path / 'out').exists()
