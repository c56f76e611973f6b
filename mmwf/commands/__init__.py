"""The command line: one module per command, with its arguments and its ``main``.

``mmwf train CONFIG`` is the same as ``python tools/train.py CONFIG``.
"""

import gc
import logging
import signal
import sys
from collections.abc import Callable
from importlib import import_module

import torch

from mmwf.errors import RunStopped, UserError
from mmwf.files import FULL_OR_READ_ONLY

#: The commands, with their purpose. Their modules have underscores in place of hyphens.
COMMANDS = {
    'init': 'write a config for a folder of your own data',
    'train': 'train the model of a config',
    'test': 'compute the metrics of a trained model',
    'infer': 'predict what is in pictures, and draw it',
    'features': 'write the features of pictures to a file',
    'sample': 'sample images from a trained diffusion model',
    'export': 'export a trained model to ONNX or torch.export',
    'quickstart': 'train and test small models on included data',
    'check-dataset': 'check that the data of a config fit its model',
    'doctor': 'check the environment, and say how to fix it',
    'check-gpu': 'check numerics, training, launchers and speed on this machine',
    'kill-test': 'kill and resume a training, and compare it with one that was not killed',
    'get-flops': 'count multiply-adds and parameters',
    'benchmark': 'measure throughput and memory at several resolutions',
    'benchmark-data': 'measure images per second and core of a training pipeline',
    'compare-predictors': 'train all weight predictors on handwritten digits and compare them',
    'erf': 'plot the effective receptive field of a backbone',
    'weight-strength': 'plot the strength of the predicted weights against the depth',
    'plot-logs': 'plot loss, learning rate and metrics of trainings',
    'official-to-mmwf': 'convert released weights to checkpoints of mmwf, or back',
    'deit-to-vitdet': 'convert a DeiT classifier to the backbone of the detection baselines',
    'digits': 'write handwritten digits as an image folder',
    'digit-scenes': 'write scenes with digits in the layouts of COCO and ADE20K',
    'imagenet-to-latents': 'encode an image folder with a VAE, for latent diffusion',
}

_INTERRUPTED = (
    'error: Interrupted (Ctrl-C). If a training has saved a checkpoint in its work dir, the same '
    'command with --resume continues from there.'
)


def run_main(main: Callable[[], object]) -> None:
    """Runs a ``main``; on an error the user can fix, prints only a message and exits with code 1.

    These are each :class:`UserError`, a full disk, and names and arguments in a config that do not
    exist. After Ctrl-C the code is 130.
    """
    logging.raiseExceptions = False  # else each line that a log file cannot take is a traceback
    code = 0
    try:
        main()
    except RunStopped as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm's, when the first process ends
        code = stop.code
    except UserError as error:
        # DataLoader puts the traceback of its worker in front of the message.
        sys.exit(f'error: {str(error).rpartition(f"{type(error).__name__}: ")[2].strip()}')
    except OSError as error:  # of files that MMEngine writes, such as its log
        if error.errno not in FULL_OR_READ_ONLY:
            raise
        sys.exit(f'error: Cannot write {error.filename or "a file"}: {error.strerror}.')
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # of any type: those of building what a config describes
        message = import_module('mmwf.engine.build_errors').explain_build_error(error)
        if message is None:
            raise
        sys.exit(f'error: {message}')
    if torch.distributed.is_initialized():
        # Reference cycles in the Runner also hold the group. As long as it exists, gloo's threads
        # run, and abort the process if they need the interpreter after its shutdown.
        gc.collect()
        torch.distributed.destroy_process_group()
    if code:
        sys.exit(code)


def run(command: str) -> None:
    """Runs a command with the arguments in ``sys.argv``.

    Args:
        command: One of ``COMMANDS``.
    """
    run_main(import_module(f'mmwf.commands.{command.replace("-", "_")}').main)


def main() -> None:
    """Runs ``mmwf COMMAND ...``."""
    command, arguments = (sys.argv[1:2] or ['--help'])[0], sys.argv[2:]
    if command not in COMMANDS:
        listing = '\n'.join(f'  {name:<22}{purpose}' for name, purpose in COMMANDS.items())
        usage = f'usage: mmwf COMMAND ...\n\n{listing}\n\nmmwf COMMAND --help shows its arguments.'
        if command in ('-h', '--help'):
            print(usage)
            return
        sys.exit(f'{usage}\n\nerror: Expected one of these commands, got {command!r}.')
    sys.argv = [f'mmwf {command}', *arguments]
    run(command)
