"""Files are complete or absent."""

import errno
import multiprocessing
import os
import resource
import sys

import cv2
import mmengine
import pytest
import torch

from mmwf import files
from mmwf.checkpoints import read_checkpoint, save_checkpoint
from mmwf.commands import run_main
from mmwf.datasets.latents import ShardInfo, write_shard
from mmwf.datasets.toy.digits import write_digits
from mmwf.datasets.toy.scenes import write_scenes
from mmwf.errors import UserError
from mmwf.files import atomic_write, write_bytes, write_json
from mmwf.visualization.plots import draw_weight_strength

ROWS = [dict(block=1, layer='fc1', mean=1.0, std=0.1)]
SHARD = ShardInfo(
    index=0, vae='v', vae_hash='h', image_size=8, classes=['a'], num_images=1, num_shards=1
)
WRITERS = {
    'json': lambda path: write_json(path, list(range(9999))),
    'mmengine.dump': lambda path: mmengine.dump(list(range(9999)), f'{path}.json'),
    'checkpoint': lambda path: save_checkpoint({'a': torch.ones(9999)}, f'{path}.pth'),
    'figure': lambda path: draw_weight_strength(ROWS, path),
    'digits': lambda path: write_digits(path),
    'scenes': lambda path: write_scenes(path, num_scenes={'train': 1}),
    'latents': lambda path: write_shard(path, torch.ones(1, 2, 8, 9, 9), torch.tensor([0]), SHARD),
}


def with_limit(limit, main, output):
    """Runs a function in a copy of this process whose files may not be larger than a limit."""

    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = sys.__stderr__
        run_main(main)

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    process.join()
    return process.exitcode


def regular_files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS.keys())
def test_a_writer_that_may_not_write_enough_fails_with_a_message_and_leaves_nothing(
    tmp_path, write
):
    output, out = tmp_path / 'printed.txt', tmp_path / 'out'
    out.mkdir()
    assert with_limit(400, lambda: write(out / 'file'), output) == 1
    printed = output.read_text()
    assert f'error: Cannot write {out}/file' in printed and 'Traceback' not in printed
    assert 'File too large. It needs' in printed and 'ulimit -f' in printed
    assert all(path.stat().st_size for path in regular_files(out))  # digits of less than 400 bytes
    assert not [path for path in regular_files(out) if '.part' in path.name]


def test_all_digits_are_written(tmp_path):
    counts = write_digits(tmp_path)
    images = regular_files(tmp_path)
    assert len(images) == sum(counts.values()) == 1797
    assert all(cv2.imread(str(path)).shape == (32, 32, 3) for path in images)


@pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS.keys())
def test_a_folder_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=f'Cannot write {tmp_path}/file/out'):
        write(tmp_path / 'file' / 'out')


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_full_disk_leaves_the_earlier_file_intact(tmp_path, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    path = tmp_path / 'epoch_1.pth'
    save_checkpoint({'a': torch.ones(3)}, path)
    before = {file.name: file.read_bytes() for file in regular_files(tmp_path)}
    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(UserError, match=f'Cannot write {path}: {os.strerror(code)}') as error:
        save_checkpoint({'a': torch.zeros(3)}, path)
    assert ('It needs 1.' in str(error.value)) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert path.read_bytes() == before[path.name]
    assert torch.equal(read_checkpoint(path)['state_dict']['a'], torch.ones(3))
    assert not list(tmp_path.glob('*.part'))


def test_nothing_is_written_to_a_disk_without_enough_space(tmp_path, monkeypatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr(files.shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(UserError, match=r'It needs 2\.0 kB; 1\.0 kB are free'):
        write_bytes(tmp_path / 'a', bytes(2000))
    assert regular_files(tmp_path) == []


def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with atomic_write(path) as file:
        file.write(b'complete')
        assert not path.exists()
    assert path.read_bytes() == b'complete'
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b'part')
        raise KeyError
    assert path.read_bytes() == b'complete' and regular_files(tmp_path) == [path]


def test_links_are_followed_and_devices_are_written_directly(tmp_path):
    (tmp_path / 'link').symlink_to('a.txt')
    write_bytes(tmp_path / 'link', b'x')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'a.txt').read_bytes() == b'x'
    write_bytes('/dev/null', b'x')
    assert not os.path.isfile('/dev/null')


def test_an_error_of_writing_in_mmengine_ends_a_command_with_a_message(capsys):
    def main():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'scalars.json')

    with pytest.raises(SystemExit, match='Cannot write scalars.json: No space left on device'):
        run_main(main)


def test_sizes_are_readable():
    sizes = [files.format_size(n) for n in (10, 2_000, 325_513_055, 2 * 10**9)]
    assert sizes == ['10 bytes', '2.0 kB', '325.5 MB', '2.0 GB']
