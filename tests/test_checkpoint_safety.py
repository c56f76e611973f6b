"""Files that hold more than weights, or none: nothing in them is run, and the error says what."""

import os
import pickle
import sys

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmwf import checkpoint
from mmwf.checkpoint import read_checkpoint


class Malicious:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


WEIGHTS = {'weight': torch.arange(6.0).view(2, 3), 'bias': torch.ones(2)}


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr(checkpoint, 'print_log', lambda message, **kwargs: messages.append(message))
    return messages


@pytest.fixture
def foreign_file(tmp_path, monkeypatch):
    """A checkpoint with an object of a class that cannot be imported any more."""
    (tmp_path / 'yacs_of_theirs.py').write_text('class CfgNode(dict):\n    pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    import yacs_of_theirs

    config = yacs_of_theirs.CfgNode(lr=0.1, nested=yacs_of_theirs.CfgNode(a=[1, 2]))
    config.frozen = True
    torch.save({'model': WEIGHTS, 'config': config, 'epoch': 1}, tmp_path / 'released.pth')
    monkeypatch.delitem(sys.modules, 'yacs_of_theirs')
    (tmp_path / 'yacs_of_theirs.py').unlink()
    return tmp_path / 'released.pth'


def test_weights_beside_a_foreign_object_are_read(foreign_file, logged):
    loaded = read_checkpoint(foreign_file)
    assert set(loaded) == {'state_dict'}
    assert all(torch.equal(loaded['state_dict'][key], WEIGHTS[key]) for key in WEIGHTS)
    assert 'yacs_of_theirs.CfgNode were not unpickled' in logged[0]
    assert 'yacs_of_theirs' not in sys.modules


def save_by_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


def save_in_the_older_format(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


savers = pytest.mark.parametrize('save', [torch.save, save_in_the_older_format, save_by_pickle])


def test_the_malicious_object_works(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / 'marker')))
    assert (tmp_path / 'marker').is_dir()


@pytest.mark.parametrize('save', [torch.save, save_in_the_older_format])
def test_a_malicious_object_beside_the_weights_is_not_run(tmp_path, logged, save):
    save({'model': WEIGHTS, 'config': Malicious(tmp_path / 'marker')}, tmp_path / 'bad.pth')
    state_dict = read_checkpoint(tmp_path / 'bad.pth')['state_dict']
    assert torch.equal(state_dict['weight'], WEIGHTS['weight'])
    assert 'mkdir' in logged[0]
    assert not (tmp_path / 'marker').exists()


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@savers
@pytest.mark.parametrize('place', ['inside the weights', 'as the weights', 'as the whole file'])
def test_a_malicious_object_in_the_place_of_weights_is_not_run(tmp_path, save, place):
    evil = Malicious(tmp_path / 'marker')
    value = {
        'inside the weights': {'model': {**WEIGHTS, 'scale': evil}},
        'as the weights': {'model': evil},
        'as the whole file': evil,
    }[place]
    save(value, tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match=r'safetensors\.torch\.save_file') as error:
        read_checkpoint(tmp_path / 'bad.pth')
    assert 'bad.pth' in str(error.value)
    assert not (tmp_path / 'marker').exists()


def test_a_malicious_file_is_not_run_through_mmengine(tmp_path):
    torch.save(Malicious(tmp_path / 'marker'), tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match='not unpickled'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'))
    assert not (tmp_path / 'marker').exists()


class CallsGetattr:
    """Reaches for a function by ``getattr``, as the pickle of a HistoryBuffer does."""

    def __init__(self, obj, name):
        self.args = obj, name

    def __reduce__(self):
        return getattr, self.args


@pytest.mark.parametrize(
    ('obj', 'name'),
    [(HistoryBuffer, '__init__'), (HistoryBuffer, '_set_default_statistics'), (slice, 'indices')],
)
def test_getattr_in_a_pickle_reaches_nothing_but_the_methods_of_history_buffer(obj, name):
    with pytest.raises(pickle.UnpicklingError, match='is not allowed'):
        checkpoint._history_buffer_attribute(obj, name)


def test_a_pickled_getattr_of_something_else_is_not_run(tmp_path, logged):
    value = {'model': WEIGHTS, 'config': CallsGetattr(slice, 'indices')}
    torch.save(value, tmp_path / 'bad.pth')
    loaded = read_checkpoint(tmp_path / 'bad.pth')
    assert set(loaded) == {'state_dict'}  # read by the way for foreign objects: weights only
    assert torch.equal(loaded['state_dict']['bias'], WEIGHTS['bias'])


def test_reading_leaves_torchs_list_of_safe_classes_alone(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(WEIGHTS, tmp_path / 'good.pth')
    read_checkpoint(tmp_path / 'good.pth')
    assert set(torch.serialization.get_safe_globals()) == before


# Damaged files ------------------------------------------------------------------------------------


def save_torchscript(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors'])
@pytest.mark.parametrize('kept', [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, name, kept):
    from safetensors.torch import save_file

    path = tmp_path / name
    (save_file if path.suffix == '.safetensors' else torch.save)(WEIGHTS, path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(ValueError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors'])
@pytest.mark.parametrize(
    'content', [b'', b'<html>404 Not Found</html>\n', b'version https://git-', b'root']
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f'{name}.*(no checkpoint at all|no readable)'):
        read_checkpoint(tmp_path / name)


def test_a_torchscript_program_is_not_loaded(tmp_path):
    save_torchscript(tmp_path / 'program.pth')
    with pytest.raises(ValueError, match=r'program\.pth is a TorchScript program'):
        read_checkpoint(tmp_path / 'program.pth')


@pytest.mark.parametrize('value', [[1, 2], torch.zeros(3)])
def test_a_file_without_a_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / 'list.pth')
    with pytest.raises(ValueError, match=f'holds a {type(value).__name__}, expected a dict'):
        read_checkpoint(tmp_path / 'list.pth')


@pytest.mark.parametrize('name', ['nowhere.pth', 'nowhere.safetensors'])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read_checkpoint(tmp_path / name)


def test_a_web_address_is_downloaded_once_and_read_as_safely(tmp_path, monkeypatch):
    downloads = []

    def download(url, file):
        downloads.append(url)
        torch.save({'weight': torch.ones(2)}, file)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        checkpoint = CheckpointLoader.load_checkpoint('https://example.org/w/a.pth?token=1')
        assert torch.equal(checkpoint['state_dict']['weight'], torch.ones(2))
    assert downloads == ['https://example.org/w/a.pth?token=1']
    assert (tmp_path / 'checkpoints' / 'a.pth').exists()
