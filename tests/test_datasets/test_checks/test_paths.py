"""Checks that the files and folders of a config exist."""

import pytest
from mmengine.config import Config

from mmwf.datasets.checks import check_data
from mmwf.errors import UserError


def test_missing_data_are_an_error_with_the_path_and_the_help_of_the_config(tmp_path):
    dataset = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='train')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), data_help='Ask the librarian.'))
    with pytest.raises(UserError, match=r'train_dataloader expects .*/train.*\nAsk the librarian'):
        check_data(cfg, ('train_dataloader',))
    (tmp_path / 'train').mkdir()
    check_data(cfg, ('train_dataloader',))


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
