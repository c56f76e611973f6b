"""Files behind web addresses, with a server on this machine."""

import functools
import hashlib
import http.server
import sys
import threading

import pytest
import torch
from helpers import run
from safetensors.torch import load_file, save_file

from mmwf.checkpoints import download
from mmwf.checkpoints.download import fetch
from mmwf.errors import UserError


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; counts requests, and cuts files named ``cut*`` short."""

    def log_message(self, *args):
        self.server.paths.append(self.path)

    def copyfile(self, source, target):
        content = source.read()
        target.write(content[: len(content) // 2] if '/cut' in self.path else content)


@pytest.fixture
def server(tmp_path):
    """A server of ``tmp_path/served``, with its address and the paths that were requested."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.paths, server.folder = [], folder
        server.url = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'checkpoints'


def left_behind(cache):
    return [path.name for path in cache.glob('*') if path.suffix != '.lock']


def test_a_file_is_downloaded_once(server, cache):
    save_file({'a': torch.ones(3)}, server.folder / 'a.safetensors')
    for _ in range(2):
        path = fetch(f'{server.url}/a.safetensors?token=1')
    assert torch.equal(load_file(path)['a'], torch.ones(3))
    assert path == cache / 'a.safetensors'
    assert server.paths == ['/a.safetensors?token=1']
    assert left_behind(cache) == ['a.safetensors']


def test_a_file_that_is_cut_short_is_refused_and_not_kept(server, cache):
    save_file({'a': torch.ones(300)}, server.folder / 'cut.safetensors')
    with pytest.raises(UserError, match=r'cut\.safetensors.* got \d+ of \d+ bytes'):
        fetch(f'{server.url}/cut.safetensors')
    assert left_behind(cache) == []


def test_the_hash_in_a_name_is_checked(server, cache):
    good = hashlib.sha256(b'content').hexdigest()[:8]
    for digest in (good, '0123abcd'):
        (server.folder / f'w-{digest}.pth').write_bytes(b'content')
    assert fetch(f'{server.url}/w-{good}.pth').read_bytes() == b'content'
    with pytest.raises(UserError, match=f'SHA-256 is {good}.*expected 0123abcd'):
        fetch(f'{server.url}/w-0123abcd.pth')
    assert left_behind(cache) == [f'w-{good}.pth']


def test_a_missing_file_is_an_error_that_says_where_to_put_it(server, cache):
    with pytest.raises(UserError, match=rf'Cannot download .*404.*put it at {cache}/none\.pth'):
        fetch(f'{server.url}/none.pth')


def test_a_download_that_another_process_has_finished_meanwhile_is_used(cache, monkeypatch):
    def lock(path):
        (cache / 'a.pth').write_bytes(b'theirs')
        return real_lock(path)

    real_lock = download.FileLock
    monkeypatch.setattr(download, 'FileLock', lock)
    assert fetch('http://127.0.0.1:1/a.pth').read_bytes() == b'theirs'


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
