"""What a hostile pickle cannot do, and that ordinary ones are read as ``torch.load`` reads them."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmwf.checkpoints import read_checkpoint
from mmwf.checkpoints.torch_files import read_torch_file
from mmwf.checkpoints.unpickling import Unpickler
from mmwf.errors import UserError


def text(value):
    """Instruction that pushes a string."""
    return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def name(module, attribute):
    """Instruction that pushes what a name stands for."""
    return f'c{module}\n{attribute}\n'.encode()


def unpickle(program):
    """Runs pickle instructions; returns the result and the names of foreign objects."""
    foreign = set()
    return Unpickler(io.BytesIO(b'\x80\x02' + program + b'.'), None, foreign).load(), foreign


POINTER = name('_codecs', 'encode') + b'(' + text('AAAAAAAA') + text('latin1') + b'tR'
ARRAY = name('numpy._core.multiarray', '_reconstruct') + b'(' + name('numpy', 'ndarray')
ARRAY += b'K\x00\x85' + text('b') + b'tR'
FLOAT = name('numpy', 'dtype') + text('f8') + b'\x85R'

HOSTILE = {
    'an array of pointers': name('numpy', 'ndarray') + b'(K\x01\x85' + text('O') + POINTER + b'tR',
    'a new array of pointers': name('numpy', 'ndarray')
    + b'(K\x01\x85'
    + text('O')
    + POINTER
    + b't\x81',
    'a dtype of objects': name('numpy', 'dtype') + text('O8') + b'\x85R',
    'a dtype with fields': name('numpy', 'dtype') + b'(' + text('a') + text('O') + b't\x85\x85R',
    'a state of objects': ARRAY
    + b'(K\x01K\x01\x85'
    + name('numpy', 'dtype')
    + text('O')
    + b'\x85R\x89'
    + POINTER
    + b'tb',
    'a larger array than its bytes': ARRAY + b'(K\x01K\x09\x85' + FLOAT + b'\x89' + POINTER + b'tb',
    'a negative size': ARRAY + b'(K\x01J\xff\xff\xff\xff\x85' + FLOAT + b'\x89' + POINTER + b'tb',
    'a scalar of objects': name('numpy._core.multiarray', 'scalar')
    + b'('
    + name('numpy', 'dtype')
    + text('O')
    + b'\x85R'
    + POINTER
    + b'tR',
    'a scalar that is too short': name('numpy._core.multiarray', 'scalar')
    + b'('
    + name('numpy', 'dtype')
    + text('c16')
    + b'\x85R'
    + POINTER
    + b'tR',
    'a big-endian dtype': FLOAT + b'(K\x03' + text('>') + b'tb',
    'another encoding': name('_codecs', 'encode') + b'(' + text('a') + text('zip') + b'tR',
    'getattr': name('builtins', 'getattr') + b'(' + name('builtins', 'set') + text('pop') + b'tR',
    'eval': name('builtins', 'eval') + b'(' + text('1') + b'tR',
    'a file': name('builtins', 'open') + b'(' + text('/dev/null') + b'tR',
    'an attribute path': name('collections', 'OrderedDict.fromkeys') + b')R',
    'a module': name('torch', 'serialization') + b')R',
    'torch.load': name('torch', 'load') + b'(' + text('/dev/null') + b'tR',
    'the state of a buffer': name('mmengine.logging.history_buffer', 'HistoryBuffer')
    + b')\x81}'
    + text('_log_history')
    + name('builtins', 'set')
    + b'sb',
}


@pytest.mark.parametrize('program', HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_part_of_a_checkpoint_is_replaced_by_a_placeholder(program):
    result, foreign = unpickle(program)
    assert foreign
    assert not isinstance(result, np.ndarray) or not result.size
    assert np.dtype('f8').byteorder == '='


REFUSED = {
    'a list called': b']' + b')R',
    'a result called': name('torch', 'Size') + b')R)R',
    'a class of torch called': name('torch', 'Tensor') + b')R',
    'the state of a function': name('builtins', 'set') + b'}' + text('a') + b'K\x01sb',
    'the state of a class': name('torch', 'Tensor') + b'}' + text('a') + b'K\x01sb',
    'the items of a function': name('builtins', 'set') + b'K\x01a',
    'the keys of an array': ARRAY + b'K\x00K\x01s',
    'a key that is a nested tuple': b'}))\x86)\x86K\x01s',
    'an extension': b'\x82\x01',
    'an old instance': b'(cos\nsystem\no',
    'a persistent string': b'Pabc\n',
    'a tensor of no storage': name('torch._utils', '_rebuild_tensor')
    + b'(K\x00K\x00K\x01\x85K\x01\x85tR',
}


@pytest.mark.parametrize('program', REFUSED.values(), ids=REFUSED.keys())
def test_what_no_checkpoint_does_is_refused(program):
    with pytest.raises((pickle.UnpicklingError, KeyError)):
        unpickle(program)


def write_program(path, program, storage=b'\0' * 16, **parts):
    """Writes a file of ``torch.save`` with these pickle instructions and one storage."""
    with zipfile.ZipFile(path, 'w', **parts) as archive:
        archive.writestr('a/data.pkl', b'\x80\x02' + program + b'.')
        archive.writestr('a/data/0', storage)


def tensor(number=4, offset=0, size=4, stride=1, key='0'):
    """Instructions of a checkpoint with one float32 tensor."""
    ints = [b'J' + value.to_bytes(4, 'little', signed=True) for value in (offset, size, stride)]
    storage = b'(' + text('storage') + name('torch', 'FloatStorage') + text(key) + text('cpu')
    storage += b'J' + number.to_bytes(4, 'little', signed=True) + b'tQ'
    rebuild = name('torch._utils', '_rebuild_tensor_v2') + b'(' + storage + ints[0]
    rebuild += ints[1] + b'\x85' + ints[2] + b'\x85' + b'\x89}tR'
    return b'}' + text('weight') + rebuild + b's'


def test_a_tensor_in_its_storage_is_read(tmp_path):
    write_program(tmp_path / 'a.pth', tensor())
    assert torch.equal(read_checkpoint(tmp_path / 'a.pth')['state_dict']['weight'], torch.zeros(4))


@pytest.mark.parametrize(
    'forged',
    [
        dict(number=2**30, size=2**30),
        dict(number=-4),
        dict(size=5),
        dict(offset=1),
        dict(offset=-1),
        dict(size=-1),
        dict(stride=2),
        dict(size=2**30, stride=0),
        dict(key='1'),
        dict(key='../data.pkl'),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, forged):
    write_program(tmp_path / 'a.pth', tensor(**forged))
    with pytest.raises(UserError, match=r'a\.pth .* is damaged'):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_compressed_file_which_could_grow_without_limit_is_refused(tmp_path):
    write_program(tmp_path / 'a.pth', tensor(), bytes(10**6), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match='its parts are compressed'):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_file_in_the_older_format_cannot_reserve_more_memory_than_its_size(tmp_path):
    torch.save({'w': torch.zeros(4)}, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    data = (tmp_path / 'a.pth').read_bytes()
    assert data.count(b'cpuq\x06K\x04') == 1
    (tmp_path / 'a.pth').write_bytes(data.replace(b'cpuq\x06K\x04', b'cpuq\x06J\0\0\0\x7f'))
    with pytest.raises(UserError, match='storages of more than'):
        read_checkpoint(tmp_path / 'a.pth')


class Attributed(nn.Module):
    """Parameters and buffers of many kinds."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.weight.lr_scale = 2.0
        for dtype in (torch.float64, torch.bfloat16, torch.half, torch.int64, torch.uint8):
            self.register_buffer(f'of_{str(dtype)[6:]}', torch.randint(9, (5,)).to(dtype))
        self.register_buffer('of_bool', torch.tensor([True, False]))
        self.register_buffer('of_complex', torch.randn(2, dtype=torch.complex64))
        self.register_buffer('of_float8', torch.ones(3).to(torch.float8_e4m3fn))
        self.register_buffer('of_uint16', torch.ones(3).to(torch.uint16))
        self.register_buffer('of_empty', torch.empty(0, 3))
        self.register_buffer('of_scalar', torch.tensor(3.5))
        self.register_buffer('of_transposed', torch.randn(4, 3).t())
        self.register_buffer('of_part', torch.randn(9)[2:5])


def as_bytes(tensor):
    return tensor.detach().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize('is_zip', [True, False])
def test_tensors_of_every_kind_are_read_as_torch_reads_them(tmp_path, is_zip):
    state = {**Attributed().state_dict(), 'parameter': Attributed().weight}
    state['shared'] = state['weight'][1:]
    if not is_zip:
        del state['of_float8'], state['of_uint16']  # the older format has no name for them
    path = tmp_path / 'a.pth'
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    foreign = set()
    ours, torchs = read_torch_file(path, None, foreign), torch.load(path, weights_only=True)
    assert not foreign and list(ours) == list(torchs)
    for key, value in torchs.items():
        assert ours[key].dtype == value.dtype and ours[key].stride() == value.stride()
        assert type(ours[key]) is type(value) and ours[key].requires_grad == value.requires_grad
        assert torch.equal(as_bytes(ours[key]), as_bytes(value))
    assert ours['shared'].data_ptr() == ours['weight'][1:].data_ptr()


def test_plain_values_are_read_as_they_were_written(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    value = dict(
        ints=[1, -1, 2**40, -(2**70)],
        texts=('a', 'ü', b'bytes', ''),
        others=[None, True, 1.5, 2 + 1j, {1, 'a'}, torch.Size([2, 3]), torch.float16],
        device=torch.device('cpu'),
        numpy=[np.arange(6).reshape(2, 3), np.float32(2), np.bool_(True), np.zeros((0, 2))],
        nested={'a': {1: {(1, 'b'): []}}},
    )
    torch.save(dict(value, buffer=buffer), tmp_path / 'a.pth')
    loaded = read_torch_file(tmp_path / 'a.pth', None, foreign := set())
    assert not foreign
    numpy, expected = loaded.pop('numpy'), value.pop('numpy')
    assert all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(numpy, expected, strict=True)
    )
    assert (loaded['buffer'].mean(), loaded.pop('buffer').current()) == (1.5, 2.0)
    assert loaded == value


def test_a_module_knows_its_version_after_reading(tmp_path):
    torch.save(nn.BatchNorm2d(2).state_dict(), tmp_path / 'a.pth')
    loaded = read_torch_file(tmp_path / 'a.pth', None, set())
    assert loaded._metadata == {'': {'version': 2}}


def test_a_foreign_name_in_a_message_has_no_control_characters():
    _, foreign = unpickle(name('a\x1b[31m', 'b'))
    assert foreign == {r'a\x1b[31m.b'}
