"""The processes of a distributed run, as their launcher describes them in the environment."""

import os
import socket
import subprocess

from mmwf.errors import UserError

#: The variables that ``torch.distributed`` reads, and those of the same meaning of each launcher.
#: torchrun and mpirun also run inside jobs of Slurm, so theirs come first.
VARIABLES = {
    'pytorch': dict(RANK='RANK', WORLD_SIZE='WORLD_SIZE', LOCAL_RANK='LOCAL_RANK'),
    'mpi': dict(
        RANK='OMPI_COMM_WORLD_RANK',
        WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
        LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK',
    ),
    'slurm': dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
}
STARTED_BY = {
    'pytorch': 'torchrun (tools/dist_*.sh)',
    'mpi': "Open MPI's mpirun",
    'slurm': 'srun (tools/slurm_*.sh)',
}


def local_rank() -> int:
    """Returns the index of this process on its machine; 0 if it was not started by a launcher."""
    names = (variables['LOCAL_RANK'] for variables in VARIABLES.values())
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def is_first_process(launcher: str) -> bool:
    """Whether this process has rank 0; needs no process group.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    return launcher == 'none' or int(os.environ.get(VARIABLES[launcher]['RANK'], 0)) == 0


def export_variables(launcher: str) -> None:
    """Sets the variables that ``torch.distributed`` reads from those of the launcher.

    ``MASTER_ADDR`` and ``MASTER_PORT`` stay if they are set. Under Slurm, the address is otherwise
    that of the first node, and the port is derived from the IDs of job and step, so that two jobs
    on a node do not collide. Under MPI, they are this machine and 29500.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        UserError: If this process was not started by the launcher, or the first machine of the run
            cannot be found.
    """
    env, variables = os.environ, VARIABLES[launcher]
    required = [*variables.values(), *(['SLURM_STEP_NODELIST'] if launcher == 'slurm' else [])]
    missing = [name for name in required if name not in env]
    if missing:
        raise UserError(
            f'--launcher {launcher} expects processes started by {STARTED_BY[launcher]}, which '
            f'sets {", ".join(required)}; not set: {", ".join(missing)}. Start the run with it, or '
            'omit --launcher to run a single process.'
        )
    env.update({name: env[source] for name, source in variables.items()})
    if launcher == 'slurm':
        if not env.get('MASTER_ADDR'):
            env['MASTER_ADDR'] = _first_node_of_the_step()
        number = 7 * int(env.get('SLURM_JOB_ID', 0)) + int(env.get('SLURM_STEP_ID', 0))
        # Below 32768, where Linux starts to take ports for outgoing connections.
        env['MASTER_PORT'] = env.get('MASTER_PORT') or str(20000 + number % 10000)
    elif launcher == 'mpi':
        if not env.get('MASTER_ADDR'):
            if env.get('OMPI_COMM_WORLD_LOCAL_SIZE') != env['WORLD_SIZE']:
                raise UserError(
                    'Several machines need MASTER_ADDR, the name or address of the one with rank '
                    '0: mpirun -x MASTER_ADDR=FIRST_MACHINE ...'
                )
            env['MASTER_ADDR'] = '127.0.0.1'
        env['MASTER_PORT'] = env.get('MASTER_PORT') or '29500'


def _first_node_of_the_step() -> str:
    """Returns the address of the node that runs rank 0."""
    if os.environ.get('SLURM_STEP_NUM_NODES') == '1':
        return '127.0.0.1'
    # Not SLURM_NODELIST, the nodes of the whole job, of which a step can use only some.
    nodes = os.environ['SLURM_STEP_NODELIST']
    advice = 'Set MASTER_ADDR to the name or IP address of the first node.'
    command = ['scontrol', 'show', 'hostnames', nodes]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f'"{" ".join(command)}" failed: {error}. {advice}') from error
    name = out.split()[0]
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise UserError(f'{name}, the first of the nodes {nodes}: {error}. {advice}') from error
    return name
