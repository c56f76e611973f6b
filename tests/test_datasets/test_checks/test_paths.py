"""Checks that the files and folders of a config exist."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmwf.datasets.checks import LOADERS, check_data
from mmwf.datasets.checks.wrappers import unwrap
from mmwf.errors import UserError

CONFIGS = Path(__file__).parents[3] / 'configs'


def test_missing_data_are_an_error_with_the_path_and_the_help_of_the_config(tmp_path):
    dataset = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='train')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), data_help='Ask the librarian.'))
    with pytest.raises(UserError, match=r'train_dataloader expects .*/train.*\nAsk the librarian'):
        check_data(cfg, ('train_dataloader',))
    (tmp_path / 'train').mkdir()
    check_data(cfg, ('train_dataloader',))


def test_the_help_on_data_is_not_shown_for_data_elsewhere(tmp_path, monkeypatch):
    """As in a config of one's own that inherits the help of ImageNet."""
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(data_help={'data/imagenet': 'Register.', 'data/shards': 'Accept.'}))
    for root, expected in {
        'data/imagenet': 'Register.',
        'data/imagenet/part': 'Register.',
        'data/shards': 'Accept.',
        'data/imagenet-own': 'Put the data there, or set val_dataloader.dataset.data_root.',
        'data/flowers': 'Put the data there, or set val_dataloader.dataset.data_root.',
    }.items():
        cfg.val_dataloader = dict(dataset=dict(type='CustomDataset', data_root=root))
        with pytest.raises(UserError) as error:
            check_data(cfg, ('val_dataloader',))
        assert str(error.value).splitlines()[-1] == expected


def data_roots(cfg):
    return {
        dataset['data_root']
        for name in LOADERS
        if cfg.get(name)
        for dataset in unwrap(cfg[name].dataset)
        if dataset.get('data_root')
    }


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('[!_]*/*.py')), ids=lambda path: path.stem)
def test_every_shipped_config_has_help_on_its_own_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(path)
    roots = data_roots(cfg)
    assert roots
    for name in LOADERS:
        if data_roots(Config({name: cfg.get(name)})):
            with pytest.raises(UserError) as error:
                check_data(cfg, (name,))
            assert 'Put the data there, or set' not in str(error.value)


@pytest.mark.parametrize('key', ['dataset', 'datasets'])
def test_data_inside_wrappers_are_checked_too(tmp_path, key):
    inner = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json')
    wrapper = dict(dataset=inner) if key == 'dataset' else dict(datasets=[dict(dataset=inner)])
    cfg = Config(dict(train_dataloader=dict(dataset=wrapper)))
    with pytest.raises(UserError, match=r'a\.json'):
        check_data(cfg, ('train_dataloader',))


def test_the_folder_of_imagenets_split_is_checked(tmp_path):
    dataset = dict(type='ImageNet', data_root=str(tmp_path), split='val')
    cfg = Config(dict(val_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match='val_dataloader expects .*/val,'):
        check_data(cfg, ('val_dataloader',))
    (tmp_path / 'val').mkdir()
    check_data(cfg, ('val_dataloader',))


@pytest.mark.parametrize('key', ['ann_file', 'proposal_file'])
def test_pickled_annotations_are_refused(tmp_path, key):
    (tmp_path / 'a.pkl').write_bytes(b'cos\nsystem\n.')
    dataset = {'type': 'CocoDataset', 'data_root': str(tmp_path), key: 'a.pkl'}
    cfg = Config(dict(train_dataloader=dict(dataset=dict(dataset=dataset))))
    with pytest.raises(UserError, match=rf'train_dataloader\.dataset\.{key} is the pickle a\.pkl'):
        check_data(cfg, ('train_dataloader',))
