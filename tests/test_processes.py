"""The processes of a distributed run."""

import os
import socket
from unittest import mock

import pytest
from mmengine.config import Config

from mmwf.datasets import checks
from mmwf.datasets.checks import coco
from mmwf.errors import UserError
from mmwf.processes import export_variables, is_first_process, local_rank

TORCHRUN = dict(RANK='6', WORLD_SIZE='8', LOCAL_RANK='2')
MPI = {f'OMPI_COMM_WORLD_{k.removeprefix("WORLD_")}': v for k, v in TORCHRUN.items()}
SLURM = dict(
    SLURM_PROCID='6', SLURM_NTASKS='8', SLURM_LOCALID='2', SLURM_JOB_ID='17', SLURM_STEP_ID='0',
    SLURM_NODELIST='n[1-3]', SLURM_STEP_NODELIST='n[2-3]', SLURM_STEP_NUM_NODES='2',
)  # fmt: skip
STARTED = {'pytorch': TORCHRUN, 'mpi': {**MPI, 'MASTER_ADDR': 'head'}, 'slurm': SLURM}


@pytest.fixture
def environ():
    """The environment without a launcher, restored after the test."""
    with mock.patch.dict(os.environ):
        for name in list(os.environ):
            if name in TORCHRUN or name.startswith(('SLURM_', 'OMPI_', 'MASTER_')):
                del os.environ[name]
        yield os.environ


@pytest.fixture
def nodes(environ, tmp_path, monkeypatch):
    """A fake ``scontrol`` that knows two nodes, whose names can be resolved."""
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[2-3]" ] && printf "n2\\nn3\\n"\n')
    scontrol.chmod(0o755)
    environ['PATH'] = f'{tmp_path}:{environ["PATH"]}'
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args: [])


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, 0),
        (TORCHRUN, 2),
        (MPI, 2),
        (SLURM, 2),
        ({'SLURM_LOCALID': '0', **MPI}, 2),  # mpirun in a job of Slurm
        ({'SLURM_LOCALID': '0', **TORCHRUN}, 2),
    ],
)
def test_the_local_rank_is_that_of_the_launcher(environ, variables, expected):
    environ.update(variables)
    assert local_rank() == expected


@pytest.mark.parametrize('launcher', STARTED)
def test_the_first_process_of_all_is_known_before_the_process_group(environ, launcher):
    environ.update(STARTED[launcher])
    assert not is_first_process(launcher) and is_first_process('none')
    environ[
        {'pytorch': 'RANK', 'mpi': 'OMPI_COMM_WORLD_RANK', 'slurm': 'SLURM_PROCID'}[launcher]
    ] = '0'
    assert is_first_process(launcher)


@pytest.mark.parametrize('variables', [TORCHRUN, MPI, SLURM], ids=['torchrun', 'mpirun', 'srun'])
def test_only_the_first_process_of_a_machine_checks_the_data(environ, monkeypatch, variables):
    checked = []
    monkeypatch.setitem(checks.CHECKS, 'mmpretrain', lambda *args: checked.append(args))
    monkeypatch.setattr(coco, '_coco_datasets', lambda *args: checked.append(args) or ())
    monkeypatch.setattr(checks, 'check_data', lambda *args: None)
    loader = dict(dataset=dict())
    classification = Config(dict(default_scope='mmpretrain', train_dataloader=loader))
    detection = Config(dict(default_scope='mmdet', train_dataloader=loader))
    for rank, expected in (('2', 0), ('0', 2)):
        environ.update({name: rank for name in variables if 'LOCAL' in name})
        checks.check_datasets(classification)
        checks.check_coco(detection, ('train_dataloader',))
        assert len(checked) == expected


@pytest.mark.parametrize('launcher', STARTED)
def test_torch_gets_ranks_and_sizes_of_every_launcher(environ, nodes, launcher):
    environ.update(STARTED[launcher])
    export_variables(launcher)
    assert {name: environ[name] for name in TORCHRUN} == TORCHRUN


@pytest.mark.parametrize('launcher', STARTED)
def test_processes_without_their_launcher_are_an_error(environ, launcher):
    with pytest.raises(UserError, match=f'--launcher {launcher} expects .* not set: .*RANK|PROCID'):
        export_variables(launcher)


def test_a_batch_script_of_slurm_without_srun_is_an_error(environ):
    environ.update({name: value for name, value in SLURM.items() if 'STEP' not in name})
    with pytest.raises(UserError, match='started by srun .* not set: SLURM_STEP_NODELIST'):
        export_variables('slurm')


def test_slurm_connects_to_the_first_node_of_the_step(environ, nodes):
    environ.update(SLURM)
    export_variables('slurm')
    assert environ['MASTER_ADDR'] == 'n2'


def test_a_single_node_of_slurm_needs_no_name(environ):
    environ.update({**SLURM, 'SLURM_STEP_NUM_NODES': '1', 'PATH': ''})
    export_variables('slurm')
    assert environ['MASTER_ADDR'] == '127.0.0.1'


def test_a_node_without_an_address_is_an_error_that_says_what_to_do(environ, nodes, monkeypatch):
    monkeypatch.setattr(socket, 'getaddrinfo', mock.Mock(side_effect=socket.gaierror('unknown')))
    environ.update(SLURM)
    with pytest.raises(UserError, match=r'n2, the first .* n\[2-3\]: unknown. Set MASTER_ADDR'):
        export_variables('slurm')


@pytest.mark.parametrize('nodelist', ['n[2-3]', 'n[7-9]'])
def test_nodes_that_scontrol_does_not_list_are_an_error(environ, nodes, nodelist):
    environ.update({**SLURM, 'SLURM_STEP_NODELIST': nodelist})
    if nodelist == 'n[2-3]':
        environ['PATH'] = ''  # a container without Slurm
    with pytest.raises(UserError, match=r'"scontrol show hostnames n.*" failed: .*Set MASTER_ADDR'):
        export_variables('slurm')


def port(environ, **variables):
    environ.pop('MASTER_PORT', None)
    environ.update({**SLURM, **variables})
    export_variables('slurm')
    return int(environ['MASTER_PORT'])


def test_jobs_and_steps_of_slurm_have_their_own_ports(environ, nodes):
    steps = [dict(SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(s)) for job in (17, 18) for s in (0, 1)]
    ports = [port(environ, **step) for step in steps]
    assert len(set(ports)) == 4
    assert ports[0] == port(environ, **steps[0], SLURM_PROCID='0', SLURM_LOCALID='0')
    assert 1024 < port(environ, SLURM_JOB_ID='67043328', SLURM_STEP_ID='4294967290') < 32768


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_a_given_address_and_port_stay(environ, launcher):
    environ.update({**STARTED[launcher], 'MASTER_ADDR': 'head', 'MASTER_PORT': '1234'})
    export_variables(launcher)
    assert (environ['MASTER_ADDR'], environ['MASTER_PORT']) == ('head', '1234')


def test_mpi_needs_an_address_on_several_machines_only(environ):
    environ.update(MPI)
    environ['OMPI_COMM_WORLD_LOCAL_SIZE'] = '4'
    with pytest.raises(UserError, match='Several machines need MASTER_ADDR'):
        export_variables('mpi')
    environ['OMPI_COMM_WORLD_LOCAL_SIZE'] = '8'
    export_variables('mpi')
    assert (environ['MASTER_ADDR'], environ['MASTER_PORT']) == ('127.0.0.1', '29500')
