"""Reading checkpoints of every format, without executing code in them."""

import io
import os
import pickle
import re
import sys
import types
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, Runner
from safetensors.torch import save_file
from torch import nn

from mmwf.checkpoints import check_checkpoint, read_checkpoint, reading
from mmwf.checkpoints.released_keys import released_to_mmwf
from mmwf.errors import UserError


def assert_same_weights(actual, expected):
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def save_safetensors(weights, path):
    save_file(weights, path.with_suffix('.safetensors'))
    return path.with_suffix('.safetensors')


def save_pth(wrap):
    def save(weights, path):
        torch.save(wrap(weights), path)
        return path

    return save


FORMATS = {
    'safetensors': save_safetensors,
    'bare': save_pth(lambda w: w),
    'model': save_pth(lambda w: {'model': w, 'epoch': 3}),
    'state_dict': save_pth(lambda w: {'state_dict': w}),
    'parameters': save_pth(lambda w: {k: nn.Parameter(v) for k, v in w.items()}),
    'ddp': save_pth(lambda w: {'model': {f'module.{k}': v for k, v in w.items()}}),
}


@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize('released', [True, False], ids=['released', 'ours'])
def test_weights_are_found_in_every_format(tmp_path, released_weights, save, released):
    ours = released_to_mmwf(released_weights)
    path = save(released_weights if released else ours, tmp_path / 'checkpoint.pth')
    for spelling in (path, str(path)):
        assert_same_weights(
            {k: v.detach() for k, v in sorted(read_checkpoint(spelling)['state_dict'].items())},
            dict(sorted(ours.items())),
        )


def test_the_older_torch_format_is_read(tmp_path, released_weights):
    path = tmp_path / 'old.pth'
    torch.save({'model': released_weights}, path, _use_new_zipfile_serialization=False)
    assert_same_weights(read_checkpoint(path)['state_dict'], released_to_mmwf(released_weights))


def test_other_entries_of_the_checkpoint_are_kept(tmp_path, released_weights):
    torch.save({'model': released_weights, 'epoch': 3}, tmp_path / 'checkpoint.pth')
    assert read_checkpoint(tmp_path / 'checkpoint.pth')['epoch'] == 3


def test_a_training_checkpoint_of_mmengine_is_read_completely(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    hub = MessageHub('test_checkpoint')
    for loss in (3.0, 1.0):
        hub.update_scalar('train/loss', loss)
    hub.update_info('epoch', 7)
    state = dict(
        meta=dict(epoch=7, iter=70, cfg='model = dict()', seed=1, dataset_meta=dict(classes=['a'])),
        state_dict=model.state_dict(),
        message_hub=hub.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3)],
    )
    torch.save(state, tmp_path / 'epoch_7.pth')
    loaded = read_checkpoint(tmp_path / 'epoch_7.pth')
    del state['meta']['cfg']  # a program
    assert loaded['meta'] == state['meta']
    assert_same_weights(loaded['state_dict'], state['state_dict'])
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert (buffer.mean(), buffer.current()) == (2.0, 1.0)
    assert loaded['message_hub']['runtime_info']['epoch'] == 7
    optimizer.load_state_dict(loaded['optimizer'])


@pytest.mark.parametrize('module', ['numpy.core', 'numpy._core'])
def test_a_training_checkpoint_that_was_written_with_another_numpy_is_read(tmp_path, module):
    buffer = HistoryBuffer([3.0, 1.0], [1, 1])
    state = dict(meta=dict(loss=np.float64(2)), state_dict=WEIGHTS, log=dict(loss=buffer))
    torch.save(state, tmp_path / 'here.pth')
    path = tmp_path / 'there.pth'
    with zipfile.ZipFile(tmp_path / 'here.pth') as here, zipfile.ZipFile(path, 'w') as there:
        for name in here.namelist():
            data = here.read(name)
            if name.endswith('data.pkl'):
                data = re.sub(rb'numpy\._?core\.multiarray', f'{module}.multiarray'.encode(), data)
                assert data.count(f'{module}.multiarray'.encode()) == 2
            there.writestr(name, data)
    loaded = read_checkpoint(path)
    assert loaded['meta'] == dict(loss=2)
    assert (loaded['log']['loss'].mean(), loaded['log']['loss'].current()) == (2.0, 1.0)


def test_the_text_of_a_config_in_a_checkpoint_is_never_executed(tmp_path):
    program = f"open({str(tmp_path / 'executed')!r}, 'w')"
    linear, path = nn.Linear(3, 2), tmp_path / 'epoch_1.pth'
    meta = dict(epoch=1, iter=1, cfg=program, config=program, experiment_name='x', time='now')
    hub = MessageHub('test_config_text')
    hub.update_info('cfg', program)
    content = dict(meta=meta, message_hub=hub.state_dict(), state_dict=linear.state_dict())
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1).state_dict()
    torch.save(dict(content, optimizer=optimizer, param_schedulers=[]), path)
    loaded = CheckpointLoader.load_checkpoint(str(path))
    assert loaded['meta'] == dict(epoch=1, iter=1, experiment_name='x', time='now')
    assert 'cfg' not in loaded['message_hub']['runtime_info']
    runner = Runner(
        model=linear,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=dict(dataset=[1], batch_size=1, sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        load_from=str(path),
        resume=True,
        experiment_name='test_config_text',
    )
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.load_or_resume()
    assert runner.epoch == 1 and not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'content',
    [
        {'model': {}, 'meta': {'config': 'x', 'epoch': 1}, 'message_hub': {}},
        {'meta': {'config': 'x', 'epoch': 1}, 'message_hub': {'runtime_info': {'cfg': 'x'}}},
        {'meta': {'hooks': [({'cfg': 'x'},)]}, 'message_hub': {'a': {'config': 'x'}}},
        {'meta': ['config'], 'message_hub': 'config'},
        {'meta': OrderedDict(config='x'), 'message_hub': Counter(cfg=1)},
    ],
)
def test_the_text_of_a_config_is_dropped_wherever_it_is(tmp_path, content):
    torch.save({'state_dict': {'weight': torch.ones(2)}, **content}, tmp_path / 'a.pth')
    torch.save({'weight': torch.ones(2), **content}, tmp_path / 'without.pth')
    for name in ('a.pth', 'without.pth'):
        loaded = read_checkpoint(tmp_path / name)
        loaded.pop('state_dict')
        remaining = {k: v for k, v in loaded.items() if k in ('meta', 'message_hub')}
        assert 'cfg' not in str(remaining) and 'config' not in str(remaining)


def test_a_checkpoint_that_contains_itself_is_read(tmp_path):
    meta = dict(epoch=1, config='x', children=[])
    meta['children'].append(meta)
    torch.save(dict(state_dict=WEIGHTS, meta=meta), tmp_path / 'a.pth')
    assert set(read_checkpoint(tmp_path / 'a.pth')['meta']) == {'epoch', 'children'}


def test_an_hf_name_is_model_safetensors_on_the_hub(tmp_path, monkeypatch, released_weights):
    save_file(released_weights, tmp_path / 'downloaded.safetensors')
    requested = []

    def hf_hub_download(repo_id, filename, revision):
        requested.append((repo_id, filename, revision))
        return str(tmp_path / 'downloaded.safetensors')

    hub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
    state_dict = read_checkpoint('hf://owner/weightformer-t')['state_dict']
    read_checkpoint('hf://owner/weightformer-t@v1')
    name = ('owner/weightformer-t', 'model.safetensors')
    assert requested == [(*name, None), (*name, 'v1')]
    assert 'backbone.norm.weight' in state_dict


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


WEIGHTS = {'weight': torch.arange(6.0).view(2, 3), 'bias': torch.ones(2)}


@pytest.fixture
def logged(monkeypatch):
    """Collects the log messages."""
    messages = []
    monkeypatch.setattr(reading, 'print_log', lambda message, **kwargs: messages.append(message))
    return messages


@pytest.fixture
def foreign_file(tmp_path, monkeypatch):
    """A checkpoint with an object whose class can no longer be imported."""
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


def test_unpickling_the_malicious_object_executes_it(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / 'marker')))
    assert (tmp_path / 'marker').is_dir()


@pytest.mark.parametrize('save', [torch.save, save_in_the_older_format])
def test_a_malicious_object_beside_the_weights_is_not_executed(tmp_path, logged, save):
    save({'model': WEIGHTS, 'config': Malicious(tmp_path / 'marker')}, tmp_path / 'bad.pth')
    state_dict = read_checkpoint(tmp_path / 'bad.pth')['state_dict']
    assert torch.equal(state_dict['weight'], WEIGHTS['weight'])
    assert 'mkdir' in logged[0]
    assert not (tmp_path / 'marker').exists()


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@savers
@pytest.mark.parametrize('place', ['inside the weights', 'as the weights', 'as the whole file'])
def test_a_malicious_object_in_place_of_the_weights_is_not_executed(tmp_path, save, place):
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


@pytest.mark.parametrize('imports', ['mmwf, mmengine.runner', 'mmengine.runner, mmwf'])
def test_importing_mmwf_makes_mmengine_read_safely(tmp_path, run_python, imports):
    path = str(tmp_path / 'bad.pth')
    torch.save(Malicious(tmp_path / 'marker'), path)
    result = run_python(
        f'import {imports}, torch\n'
        'try:\n'
        f'    mmengine.runner.load_checkpoint(torch.nn.Linear(1, 1), {path!r})\n'
        'except mmwf.errors.UserError as error:\n'
        '    print(error)\n'
    )
    assert 'was not unpickled' in result.stdout, result.stderr
    assert not (tmp_path / 'marker').exists()


@pytest.mark.parametrize(
    'path', ['a.pth', 'hf://owner/name', 'http://host/a.pth', 'https://host/a.pth']
)
def test_mmengine_reads_files_urls_and_names_on_the_hub_safely(path):
    assert CheckpointLoader._get_checkpoint_loader(path) is reading.load_from_local


def test_mmengines_model_zoos_are_read_safely(monkeypatch):
    from mmengine.runner import checkpoint

    paths = []
    monkeypatch.setattr(reading, 'read_checkpoint', lambda path, device: paths.append(path) or {})
    monkeypatch.setattr(checkpoint, 'get_torchvision_models', lambda: {'r': 'https://a/r.pth'})
    CheckpointLoader.load_checkpoint('torchvision://r')
    assert paths == ['https://a/r.pth']


def test_mmengine_never_falls_back_to_unpickling_what_is_not_safe(tmp_path):
    from mmengine.runner import checkpoint

    buffer = io.BytesIO()
    torch.save(Malicious(tmp_path / 'marker'), buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        checkpoint._safe_torch_load(buffer)
    assert not (tmp_path / 'marker').exists()


class CallsGetattr:
    """Is pickled as a call of ``getattr``, like HistoryBuffer."""

    def __init__(self, obj, name):
        self.args = obj, name

    def __reduce__(self):
        return getattr, self.args


def test_a_pickled_getattr_of_another_object_is_not_executed(tmp_path, logged):
    value = {'model': WEIGHTS, 'config': CallsGetattr(slice, 'indices')}
    torch.save(value, tmp_path / 'bad.pth')
    loaded = read_checkpoint(tmp_path / 'bad.pth')
    assert set(loaded) == {'state_dict'}  # as for foreign objects, only the weights are read
    assert torch.equal(loaded['state_dict']['bias'], WEIGHTS['bias'])


def test_reading_does_not_change_torchs_safe_globals(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(WEIGHTS, tmp_path / 'good.pth')
    read_checkpoint(tmp_path / 'good.pth')
    assert set(torch.serialization.get_safe_globals()) == before


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
def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f'{name}.*not a (checkpoint|readable)'):
        read_checkpoint(tmp_path / name)


def test_a_torchscript_program_is_not_loaded(tmp_path):
    save_torchscript(tmp_path / 'program.pth')
    with pytest.raises(ValueError, match=r'program\.pth is a TorchScript program'):
        read_checkpoint(tmp_path / 'program.pth')


@pytest.mark.parametrize('value', [[1, 2], torch.zeros(3)])
def test_a_file_without_a_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / 'list.pth')
    with pytest.raises(ValueError, match=f'a dict of weights, got a {type(value).__name__}'):
        read_checkpoint(tmp_path / 'list.pth')


@pytest.mark.parametrize('name', ['nowhere.pth', 'nowhere.safetensors'])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read_checkpoint(tmp_path / name)


def test_a_missing_local_checkpoint_is_a_user_error():
    with pytest.raises(UserError, match=r'There is no checkpoint nowhere\.pth'):
        check_checkpoint('nowhere.pth')
    check_checkpoint('hf://RuizeHe/weightformer-t')


def test_a_path_may_start_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(WEIGHTS, tmp_path / 'a.pth')
    check_checkpoint('~/a.pth')
    assert torch.equal(read_checkpoint('~/a.pth')['state_dict']['bias'], WEIGHTS['bias'])
