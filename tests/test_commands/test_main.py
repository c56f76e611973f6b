"""The command line as a whole: its commands, their help and their errors."""

import argparse
import importlib
import re
import sys
from pathlib import Path

import pytest
from torch._utils import ExceptionWrapper  # how DataLoader passes on errors of its workers

from mmwf.commands import COMMANDS, main, run_main
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]
MODULES = {
    path.stem for path in (ROOT / 'mmwf/commands').glob('*.py') if not path.stem.startswith('_')
}
TOOLS = {path.stem: path for path in (ROOT / 'tools').rglob('*.py')}


def test_every_command_has_a_module_and_a_tool():
    names = {command.replace('-', '_') for command in COMMANDS}
    assert names == MODULES == set(TOOLS)
    for command in COMMANDS:
        assert f"run('{command}')" in TOOLS[command.replace('-', '_')].read_text()


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_explains_its_arguments(command, monkeypatch, capsys):
    parsers = []
    print_help = argparse.ArgumentParser.print_help

    def record(parser, *args):
        parsers.append(parser)
        print_help(parser, *args)

    monkeypatch.setattr(argparse.ArgumentParser, 'print_help', record)
    monkeypatch.setattr(sys, 'argv', ['mmwf', command, '--help'])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: mmwf {command}')
    (parser,) = parsers
    assert parser.description
    assert all(action.help for action in parser._actions)
    assert callable(importlib.import_module(f'mmwf.commands.{command.replace("-", "_")}').main)


@pytest.mark.parametrize('arguments', [[], ['--help']])
def test_the_help_lists_the_commands(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmwf', *arguments])
    main()
    printed = capsys.readouterr().out
    assert all(f'  {command} ' in printed for command in COMMANDS)


def test_an_unknown_command_is_an_error_that_lists_the_commands(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['mmwf', 'trian', 'config.py'])
    with pytest.raises(SystemExit) as exit_:
        main()
    message = exit_.value.code  # a string: Python prints it to stderr and exits with 1
    assert message.endswith("got 'trian'.")
    assert all(f'  {command} ' in message for command in COMMANDS)


DIGITS = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
MISTAKES = {
    'train none.py': r'There is no config none\.py',
    f'train {DIGITS} --cfg-options train_dataloader.dataset.data_root=nowhere': (
        r'expects nowhere.*Put the data there, or set train_dataloader\.dataset\.data_root'
    ),
    f'test {DIGITS} none.pth': r'There is no checkpoint none\.pth',
    f'test {DIGITS} README.md --cfg-options test_dataloader.dataset.data_root=nowhere': (
        r'test_dataloader expects nowhere.*Put the data there, or set test_dataloader'
    ),
    f'test {DIGITS} none.pth --out a.csv': r'Expected --out FILE\.json or FILE\.pkl, got a\.csv',
    'quickstart classification cooking': 'Expected each TASK to be one of .*; got cooking',
    f'erf {DIGITS} --images a --out a.png': 'Expected a CHECKPOINT, --init for random weights',
    f'weight-strength {DIGITS} none.pth --images nowhere --out a.png': 'There is no folder nowhere',
}


@pytest.mark.parametrize(('command', 'message'), MISTAKES.items())
def test_a_mistake_ends_a_command_with_a_message(command, message, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['mmwf', *command.split()])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert re.match(f'error: .*{message}', exit_.value.code, re.DOTALL)


def test_a_user_error_ends_a_command_with_its_message_only():
    def raise_error():
        raise UserError('try this')

    with pytest.raises(SystemExit, match='^error: try this$'):
        run_main(raise_error)


def test_a_user_error_of_a_data_loading_worker_does_too():
    try:
        raise UserError('the file: x.png')
    except UserError:
        wrapper = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(SystemExit, match='^error: the file: x.png$'):
        run_main(wrapper.reraise)
