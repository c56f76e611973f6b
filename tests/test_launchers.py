"""The launchers, with several machines and a Slurm that exist only in name: all is on this one."""

import os
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import difference, make_once, read_metrics, run, run_tool, weights

from mmwf.datasets.toy.digits import write_digits

ROOT = Path(__file__).parents[1]
LEAF = ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'

# Runs the command once per task, with the variables that Slurm would set on a single node.
SRUN = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do
  case $1 in
    --ntasks=*) export SLURM_NTASKS=${1#*=} ;;
    -p) shift ;;
  esac
  shift
done
export SLURM_JOB_ID=$$ SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NODELIST=n1
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
done
for ((task = 0; task < SLURM_NTASKS; task++)); do
  wait -n || { kill $(jobs -p); exit 1; }
done
"""


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def print_command(tmp_path):
    """Variables that replace Python and srun by a program that prints its command line."""
    show = '#!/bin/sh\necho "threads=$OMP_NUM_THREADS MASTER_PORT=$MASTER_PORT" "$@"\n'
    write_program(tmp_path / 'srun', show)
    return dict(
        PYTHON=str(write_program(tmp_path / 'python', show)),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        **dict.fromkeys(('OMP_NUM_THREADS', 'NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT'), ''),
    )


@pytest.mark.parametrize(
    ('machines', 'message'),
    [
        (dict(NNODES='2', NODE_RANK='0'), 'NNODES=2 needs MASTER_ADDR: .* It is not set'),
        (dict(NNODES='2', MASTER_ADDR='head'), 'NNODES=2 needs NODE_RANK: .* Got none'),
        (
            dict(NNODES='2', MASTER_ADDR='head', NODE_RANK='2'),
            'NNODES=2 needs NODE_RANK: 0 .* then 1 to 1. Got 2',
        ),
        (dict(NNODES='two'), 'Expected NNODES to be a number of machines, got two'),
        (dict(MAX_RESTARTS='x'), 'Expected MAX_RESTARTS to be a number, got x'),
        (dict(NNODES='2', MAX_RESTARTS='1'), 'of one machine only; got NNODES=2'),
    ],
)
@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'dist_sample.sh'])
def test_a_run_on_several_machines_that_could_only_hang_is_refused(
    print_command, script, machines, message
):
    arguments = ['c.py', *([] if 'train' in script else ['x.pth']), 8]
    out = run('bash', f'tools/{script}', *arguments, code=2, **{**print_command, **machines})
    (line,) = out.splitlines()
    assert line.startswith('error: ')
    assert re.search(message, line)


def test_one_machine_needs_no_address(print_command):
    out = run('bash', 'tools/dist_train.sh', 'c.py', 8, **print_command)
    assert '--standalone --nproc-per-node 8 --max-restarts 0' in out
    assert out.startswith('threads=1 ')
    out = run('bash', 'tools/dist_train.sh', 'c.py', 8, **{**print_command, 'OMP_NUM_THREADS': '4'})
    assert out.startswith('threads=4 ')
    out = run('bash', 'tools/dist_train.sh', 'c.py', 8, **print_command, PORT='1234')
    assert '--nnodes 1 --node-rank 0 --master-addr 127.0.0.1 --master-port 1234' in out


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, '--gres=gpu:8 --ntasks=8 --ntasks-per-node=8 --cpus-per-task=8'),
        (dict(GPUS='2'), '--gres=gpu:2 --ntasks=2 --ntasks-per-node=2'),
        (dict(GPUS='16', GPUS_PER_NODE='4'), '--gres=gpu:4 --ntasks=16 --ntasks-per-node=4'),
        (dict(GRES='gpu:a100:8'), '--gres=gpu:a100:8 --ntasks=8'),
        (dict(GRES=''), '--job-name=job --ntasks=8'),
        (dict(SRUN_ARGS='--time 60 -w n2'), '--time 60 -w n2'),
        (dict(PORT='1234'), 'MASTER_PORT=1234'),
        ({}, 'MASTER_PORT= -p'),  # mmwf.processes chooses it
        ({}, '--kill-on-bad-exit=1'),  # one failed task ends the job
        (dict(CPUS_PER_TASK='3'), 'threads=3'),
        (dict(CPUS_PER_TASK='3', OMP_NUM_THREADS='2'), 'threads=2'),
    ],
)
def test_srun_gets_the_settings_of_the_environment(print_command, settings, expected):
    out = run('bash', 'tools/slurm_train.sh', 'all', 'job', 'c.py', **{**print_command, **settings})
    assert expected in out
    assert out.rstrip().endswith('tools/train.py c.py --launcher slurm')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Config of a small model that trains on 50 digits, shuffled but not augmented."""

    def make(folder):
        write_digits(folder / 'digits')
        for split, keep in (('train', 5), ('val', 2)):
            for label in (folder / 'digits' / split).iterdir():
                for path in sorted(label.iterdir())[keep:]:
                    path.unlink()
        data = str(folder / 'digits')
        (folder / 'toy.py').write_text(f"""
_base_ = {str(LEAF)!r}
model = dict(backbone=dict(arch=dict(embed_dims=16, depth=3, mlp_ratio=2)),
             head=dict(in_channels=16))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=8, dataset=dict(data_root={data!r}, pipeline=pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
env_cfg = dict(dist_cfg=dict(timeout=120))
""")

    return make_once(tmp_path_factory, 'test_launchers_config', make) / 'toy.py'


@pytest.fixture(scope='module')
def one(config, tmp_path_factory):
    """Work dir of the training in one process."""

    def train(work_dir):
        run_tool('train.py', config, '--work-dir', work_dir, '--device', 'cpu')

    return make_once(tmp_path_factory, 'test_launchers_one', train)


def half_the_batch(work_dir):
    """The arguments of each of two processes."""
    half = 'train_dataloader.batch_size=4'
    return '--work-dir', work_dir, '--device', 'cpu', '--cfg-options', half


@pytest.fixture
def slurm(tmp_path):
    """Variables that select two CPU tasks on a node of a Slurm that is only a script."""
    write_program(tmp_path / 'srun', SRUN)
    cpu = dict(GPUS='2', GRES='', CPUS_PER_TASK='1', OMP_NUM_THREADS='1')
    return dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', **cpu)


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.mark.slow
def test_two_machines_train_like_one_process_with_twice_the_batch_size(config, one, tmp_path):
    """Two torchrun agents, each with one process, are started like those of two machines."""
    machines = dict(NNODES='2', MASTER_ADDR='127.0.0.1', PORT=str(free_port()))
    arguments = config, 1, *half_the_batch(tmp_path)

    def train(rank):
        return run('bash', 'tools/dist_train.sh', *arguments, **machines, NODE_RANK=str(rank))

    with ThreadPoolExecutor() as pool:
        logs = list(pool.map(train, range(2)))
    assert '2 processes' in logs[0]
    assert difference(weights(one / 'epoch_2.pth'), weights(tmp_path / 'epoch_2.pth')) < 1e-5
    start = weights(one / 'epoch_1.pth')
    assert difference(weights(one / 'epoch_2.pth'), start) > 1e-4  # the weights did change


@pytest.mark.slow
def test_two_tasks_of_slurm_train_like_one_process_with_twice_the_batch_size(
    config, one, slurm, tmp_path
):
    arguments = 'all', 'job', config, *half_the_batch(tmp_path)
    log = run('bash', 'tools/slurm_train.sh', *arguments, **slurm)
    assert '2 processes' in log
    assert 'Warning' not in log
    assert difference(weights(one / 'epoch_2.pth'), weights(tmp_path / 'epoch_2.pth')) < 1e-5


@pytest.mark.slow
def test_two_tasks_of_slurm_give_the_metrics_of_one_process(config, one, slurm, tmp_path):
    results = []
    for command in (
        [sys.executable, 'tools/test.py'],
        ['bash', 'tools/slurm_test.sh', 'all', 'job'],
    ):
        out = tmp_path / f'{len(results)}.json'
        options = '--device', 'cpu', '--work-dir', tmp_path, '--out', out
        run(*command, config, one / 'epoch_2.pth', *options, **slurm)
        results.append(read_metrics(out))
    assert results[0] == results[1]


@pytest.mark.slow
def test_slurm_ends_with_the_message_of_a_mistake(config, slurm, tmp_path):
    nowhere = 'train_dataloader.dataset.data_root=nowhere'
    arguments = 'all', 'job', config, *half_the_batch(tmp_path), nowhere
    log = run('bash', 'tools/slurm_train.sh', *arguments, code=1, **slurm)
    assert 'Put the data there, or set train_dataloader.dataset.data_root' in log
    assert 'Traceback' not in log
