"""Files behind web addresses, with a server on this machine."""

import contextlib
import functools
import hashlib
import http.server
import sys
import threading

import pytest
import torch
from helpers import run
from safetensors.torch import load_file, save_file

from mmwf.checkpoints import download, read_checkpoint
from mmwf.checkpoints.download import fetch
from mmwf.errors import UserError


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; counts requests, and cuts files named ``cut*`` short.

    Files named ``unsized*`` come without their length.
    """

    def log_message(self, *args):
        self.server.paths.append(self.path)

    def send_header(self, keyword, value):
        if not (keyword == 'Content-Length' and 'unsized' in self.path):
            super().send_header(keyword, value)

    def copyfile(self, source, target):
        content = source.read()
        target.write(content[: len(content) // 2] if '/cut' in self.path else content)


@contextlib.contextmanager
def serve(folder):
    """A server of a new folder, with its address and the paths that were requested."""
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.paths, server.folder = [], folder
        server.url = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(tmp_path):
    with serve(tmp_path / 'served') as server:
        yield server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'checkpoints'


@pytest.fixture
def logged(monkeypatch):
    """Collects the log messages."""
    messages = []
    monkeypatch.setattr(download, 'print_log', lambda message, *args: messages.append(message))
    return messages


def left_behind(cache):
    return sorted(p.name for p in cache.rglob('*') if p.is_file() and p.suffix != '.lock')


def test_a_file_is_downloaded_once(server, cache):
    save_file({'a': torch.ones(3)}, server.folder / 'a.safetensors')
    for _ in range(2):
        path = fetch(f'{server.url}/a.safetensors?token=1')
    assert torch.equal(load_file(path)['a'], torch.ones(3))
    assert path.name == 'a.safetensors' and path.is_relative_to(cache)
    assert server.paths == ['/a.safetensors?token=1']
    assert left_behind(cache) == ['a.safetensors']


def test_files_of_the_same_name_at_other_addresses_are_other_files(server, tmp_path, cache):
    (server.folder / 'x').mkdir()
    (server.folder / 'a.pth').write_bytes(b'first')
    (server.folder / 'x/a.pth').write_bytes(b'second')
    with serve(tmp_path / 'other') as other:
        (other.folder / 'a.pth').write_bytes(b'third')
        for _ in range(2):
            addresses = (f'{server.url}/a.pth', f'{server.url}/x/a.pth', f'{other.url}/a.pth')
            assert [fetch(url).read_bytes() for url in addresses] == [b'first', b'second', b'third']


def test_a_file_that_is_cut_short_is_refused_and_not_kept(server, cache):
    save_file({'a': torch.ones(300)}, server.folder / 'cut.safetensors')
    with pytest.raises(UserError, match=r'cut\.safetensors.* got \d+ of \d+ bytes'):
        fetch(f'{server.url}/cut.safetensors')
    assert left_behind(cache) == []


@pytest.mark.parametrize('name', ['cut_unsized.pth', 'cut_unsized.safetensors'])
def test_a_file_of_unknown_length_that_is_cut_short_is_refused_and_not_kept(server, cache, name):
    save = torch.save if name.endswith('.pth') else save_file
    save({'a': torch.ones(300)}, server.folder / name)
    with pytest.raises(UserError, match=f'{name}: .* The downloaded file has been deleted'):
        read_checkpoint(f'{server.url}/{name}')
    assert left_behind(cache) == []


def test_a_page_in_place_of_the_file_is_refused_and_not_kept(server, cache):
    file = server.folder / 'a.pth'
    file.write_text('<html>Please log in</html>')
    with pytest.raises(UserError, match='damaged or not a checkpoint.* has been deleted'):
        read_checkpoint(f'{server.url}/a.pth')
    assert left_behind(cache) == []
    torch.save({'a': torch.ones(3)}, file)
    assert torch.equal(read_checkpoint(f'{server.url}/a.pth')['state_dict']['a'], torch.ones(3))


def test_the_hash_in_a_name_is_checked(server, cache):
    good = hashlib.sha256(b'content').hexdigest()[:8]
    for digest in (good, '0123abcd'):
        (server.folder / f'w-{digest}.pth').write_bytes(b'content')
    assert fetch(f'{server.url}/w-{good}.pth').read_bytes() == b'content'
    with pytest.raises(UserError, match=f'SHA-256 is {good}.*expected 0123abcd'):
        fetch(f'{server.url}/w-0123abcd.pth')
    assert left_behind(cache) == [f'w-{good}.pth']


def test_the_hash_in_an_address_is_checked_also_in_the_cache(server, cache, logged):
    (server.folder / 'w.pth').write_bytes(b'old')
    assert fetch(f'{server.url}/w.pth').read_bytes() == b'old'
    (server.folder / 'w.pth').write_bytes(b'new')
    new = hashlib.sha256(b'new').hexdigest()
    for _ in range(2):
        assert fetch(f'{server.url}/w.pth#sha256={new}').read_bytes() == b'new'
    assert server.paths == ['/w.pth'] * 2
    with pytest.raises(UserError, match=f'SHA-256 is {new}, expected 0123abcd'):
        fetch(f'{server.url}/w.pth#sha256=0123abcd')
    with pytest.raises(UserError, match='Expected an address that ends in #sha256='):
        fetch(f'{server.url}/w.pth#md5=1')
    assert sum('is not encrypted' in message for message in logged) == 1  # without a hash


def test_a_missing_file_is_an_error_that_says_where_to_put_it(server, cache):
    url = f'{server.url}/none.pth'
    with pytest.raises(UserError, match='Cannot download .*404.*put it at') as error:
        fetch(url)
    file = download.cached_file(url)
    assert str(error.value).endswith(f'put it at {file}.')
    file.write_bytes(b'by hand')
    assert fetch(url).read_bytes() == b'by hand'


def test_a_cache_that_cannot_be_written_is_an_error_with_its_path(server, cache):
    cache.parent.mkdir()
    cache.write_text('a file in place of the folder')
    with pytest.raises(UserError, match=f'Cannot keep {server.url}/a.pth at {cache}'):
        fetch(f'{server.url}/a.pth')


def test_a_download_that_another_process_has_finished_meanwhile_is_used(cache, monkeypatch):
    def lock(path):
        download.cached_file(url).write_bytes(b'theirs')
        return real_lock(path)

    url, real_lock = 'http://127.0.0.1:1/a.pth', download.FileLock
    monkeypatch.setattr(download, 'FileLock', lock)
    assert fetch(url).read_bytes() == b'theirs'


@pytest.mark.slow
def test_two_processes_of_a_group_load_from_the_web_and_one_downloads(server, tmp_path):
    save_file({'weight': torch.full((1, 1), 7.0)}, server.folder / 'w.safetensors')
    code = f"""
import os, torch
torch.hub.set_dir({str(tmp_path / 'cache')!r})
import mmwf
from mmengine.runner import CheckpointLoader
torch.distributed.init_process_group('gloo')
weights = CheckpointLoader.load_checkpoint('{server.url}/w.safetensors')['state_dict']
print('rank', torch.distributed.get_rank(), 'got', weights['weight'].item())
torch.distributed.destroy_process_group()
"""
    script = tmp_path / 'script.py'
    script.write_text(code)
    two = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    printed = run(sys.executable, *two, script)
    assert 'rank 0 got 7.0' in printed and 'rank 1 got 7.0' in printed
    assert len(server.paths) == 1


def test_a_name_that_the_hub_does_not_have_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(UserError, match=r'Cannot download hf://nobody/none: .*model\.safetensors'):
        fetch('hf://nobody/none')
