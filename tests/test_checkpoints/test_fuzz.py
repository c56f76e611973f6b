"""Random damage and random pickles: a checkpoint is read, or refused with a UserError."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from fuzzing import cases
from hypothesis import given
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from safetensors.torch import save

from mmwf.checkpoints import read_checkpoint
from mmwf.checkpoints.unpickling import CLASSES, FUNCTIONS, PLAIN, STORAGE_DTYPES
from mmwf.errors import UserError

WEIGHTS = {'a.weight': torch.arange(6.0).view(2, 3), 'a.bias': torch.ones(2)}


def training_checkpoint():
    buffer = HistoryBuffer([1.0], [1])
    hub = dict(log_scalars=dict(loss=buffer), runtime_info=dict(cfg='x', i=np.float64(1)))
    return dict(state_dict=WEIGHTS, meta=dict(epoch=1, config='x'), message_hub=hub)


def saved(name):
    """The bytes of a valid file of each kind."""
    if name == 'safetensors':
        return save(WEIGHTS)
    file = io.BytesIO()
    is_zip = name != 'sequence'
    torch.save(training_checkpoint(), file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


def read(path):
    """Reads a file; only a UserError may be raised, and the weights must be usable."""
    try:
        checkpoint = read_checkpoint(path)
    except UserError:
        return None
    for value in checkpoint['state_dict'].values():
        if isinstance(value, torch.Tensor) and value.dtype != torch.bool:
            value.sum()  # touches all of its memory
    assert 'config' not in str(checkpoint.get('meta'))
    return checkpoint


def damage(content, data):
    """Replaces some bytes, and cuts off the end."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 8))
        content[position : position + length] = data.draw(st.binary(max_size=8))
    kept = data.draw(st.integers(0, len(content)))
    return bytes(content if data.draw(st.booleans()) else content[:kept])


@pytest.mark.parametrize('name', ['zip', 'sequence', 'safetensors'])
@cases(60)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, name, data):
    suffix = '.safetensors' if name == 'safetensors' else '.pth'
    path = tmp_path_factory.getbasetemp() / f'damaged{os.getpid()}{suffix}'
    path.write_bytes(damage(saved(name), data))
    read(path)


@cases(100)
@given(data=st.data())
def test_a_damaged_pickle_with_a_valid_checksum_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / f'pickle{os.getpid()}.pth'
    with zipfile.ZipFile(io.BytesIO(saved('zip'))) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            content = source.read(name)
            is_pickle = name.endswith('data.pkl')
            target.writestr(name, damage(content, data) if is_pickle else content)
    read(path)


NAMES = [*FUNCTIONS, *CLASSES, *(f'torch.{name}' for name in STORAGE_DTYPES)]
NAMES += ['torch.float32', 'builtins.eval', 'os.system', 'torch.load', 'numpy.matrix']
MOVES = {name: getattr(pickle, name) for name in PLAIN.split()}
ARGUMENTS = {
    'BININT': st.binary(min_size=4, max_size=4),
    'BININT1': st.binary(min_size=1, max_size=1),
    'BININT2': st.binary(min_size=2, max_size=2),
    'BINFLOAT': st.binary(min_size=8, max_size=8),
    'BINUNICODE': st.sampled_from(['f8', 'O', 'storage', '0', 'cpu', 'latin1', 'weight', 'config'])
    .map(str.encode)
    .map(lambda text: len(text).to_bytes(4, 'little') + text),
    'SHORT_BINBYTES': st.binary(max_size=16).map(lambda data: bytes([len(data)]) + data),
    'LONG1': st.binary(max_size=9).map(lambda data: bytes([len(data)]) + data),
    'BINGET': st.integers(0, 5).map(lambda index: bytes([index])),
    'BINPUT': st.integers(0, 5).map(lambda index: bytes([index])),
    'GLOBAL': st.sampled_from(NAMES).map(
        lambda name: '\n'.join([*name.rsplit('.', 1), '']).encode()
    ),
}
WITHOUT = 'MARK POP POP_MARK NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET '
WITHOUT += 'TUPLE TUPLE1 TUPLE2 TUPLE3 BINPERSID MEMOIZE REDUCE NEWOBJ BUILD APPEND APPENDS '
WITHOUT += 'SETITEM SETITEMS ADDITEMS INST OBJ EXT1 DUP'
INSTRUCTION = st.one_of(
    st.sampled_from(WITHOUT.split()).map(lambda name: getattr(pickle, name)),
    *(
        argument.map(lambda data, name=name: getattr(pickle, name) + data)
        for name, argument in ARGUMENTS.items()
    ),
)
CALL = st.tuples(  # pushes a function and arguments, and calls it
    ARGUMENTS['GLOBAL'], st.lists(INSTRUCTION, max_size=5), st.sampled_from([b'R', b'\x81', b'b'])
).map(lambda parts: b'c' + parts[0] + b'(' + b''.join(parts[1]) + b't' + parts[2])


@cases(200)
@given(program=st.lists(st.one_of(INSTRUCTION, CALL), max_size=30))
def test_random_pickles_are_read_or_refused(tmp_path_factory, program):
    path = tmp_path_factory.getbasetemp() / f'random{os.getpid()}.pth'
    weights = b'}X\x06\0\0\0config}X\x06\0\0\0weight'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', b'\x80\x02' + weights + b''.join(program) + b's.')
        archive.writestr('a/data/0', bytes(16))
    read(path)


def test_random_pickles_contain_all_instructions_that_the_reader_knows():
    known = set(MOVES) - {'PROTO', 'STOP', 'FRAME', 'STACK_GLOBAL'}
    known -= {'LONG4', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'BINBYTES8'}  # as others
    known -= {'SHORT_BINUNICODE', 'BINUNICODE8', 'LONG_BINGET', 'LONG_BINPUT'}
    assert known <= {*ARGUMENTS, *WITHOUT.split()}
