"""Damaged checkpoints are refused and named, whichever byte is wrong."""

import hashlib
import io
import random
import subprocess
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from mmwf.checkpoints import read_checkpoint, save_checkpoint
from mmwf.checkpoints.writing import digest_path
from mmwf.errors import UserError

WEIGHTS = {'a.weight': torch.arange(60.0).view(6, 10), 'a.bias': torch.ones(6)}
TRAINING = dict(meta=dict(epoch=1, iter=10), state_dict=WEIGHTS, optimizer=dict(lr=0.1))


def same(checkpoint):
    weights = checkpoint['state_dict']
    return (
        weights.keys() == WEIGHTS.keys()
        and all(torch.equal(weights[key], WEIGHTS[key]) for key in WEIGHTS)
        and checkpoint['meta'] == TRAINING['meta']
        and checkpoint['optimizer'] == TRAINING['optimizer']
    )


def flip(data, byte, bit):
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


@pytest.mark.parametrize('with_digest', [True, False])
def test_a_flipped_bit_in_any_byte_is_refused_or_harmless(tmp_path, with_digest):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(TRAINING, path)
    data, choose = path.read_bytes(), random.Random(0)
    if not with_digest:
        digest_path(path).unlink()
    assert same(read_checkpoint(path))
    refused = 0
    for byte in range(len(data)):
        path.write_bytes(flip(data, byte, choose.randrange(8)))
        try:
            assert same(read_checkpoint(path)), byte
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
    # Without digest, changes that do not matter are not noticed: of bytes between members of the
    # archive, and of members that are not read.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [i.file_size for i in archive.infolist() if '/data' in i.filename]
    assert refused == len(data) if with_digest else refused >= sum(parts) > 0


def test_a_flipped_bit_in_weights_of_another_programs_file_is_refused(tmp_path):
    torch.save({'model': WEIGHTS}, tmp_path / 'released.pth')
    data = (tmp_path / 'released.pth').read_bytes()
    start = data.index(WEIGHTS['a.weight'].numpy().tobytes())
    for byte in range(start, start + 240):
        (tmp_path / 'released.pth').write_bytes(flip(data, byte, byte % 8))
        with pytest.raises(UserError, match=r'released\.pth .*Bad CRC-32 for file .*/data/'):
            read_checkpoint(tmp_path / 'released.pth')


@pytest.mark.parametrize('name', ['model.safetensors', 'old.pth'])
def test_a_digest_protects_formats_without_checksums(tmp_path, name):
    path = tmp_path / name
    if name == 'old.pth':
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    else:
        save_file(WEIGHTS, path)
    data = path.read_bytes()
    digest_path(path).write_text(f'{hashlib.sha256(data).hexdigest()}  {name}\n')
    assert torch.equal(read_checkpoint(path)['state_dict']['a.bias'], torch.ones(6))
    start = data.index(WEIGHTS['a.weight'].numpy().tobytes())
    path.write_bytes(flip(data, start + 5, 3))
    with pytest.raises(UserError, match=f'{name}.* damaged: its SHA-256 is .* remove that file'):
        read_checkpoint(path)


def test_sha256sum_verifies_our_digests(tmp_path):
    save_checkpoint(TRAINING, tmp_path / 'epoch_1.pth')
    command = ['sha256sum', '--check', 'epoch_1.pth.sha256']
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_a_link_to_a_checkpoint_is_checked_against_the_digest_of_the_file(tmp_path):
    save_checkpoint(TRAINING, tmp_path / 'epoch_1.pth')
    (tmp_path / 'link.pth').symlink_to('epoch_1.pth')
    assert same(read_checkpoint(tmp_path / 'link.pth'))
    data = (tmp_path / 'epoch_1.pth').read_bytes()
    (tmp_path / 'epoch_1.pth').write_bytes(flip(data, 0, 0))
    with pytest.raises(UserError, match='its SHA-256 is'):
        read_checkpoint(tmp_path / 'link.pth')
