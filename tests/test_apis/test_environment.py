import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmwf.apis import environment
from mmwf.apis.environment import UserError


def test_an_unknown_config_is_an_error_that_names_a_close_one():
    with pytest.raises(UserError, match='There is no config .*weightformer-tiny-p16_8xb256_in1k'):
        environment.load_config('configs/classification/weightformer-tiny_8xb256_in1k.py')


def test_missing_data_are_an_error_that_names_path_and_remedy(tmp_path):
    dataset = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='train')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), data_help='Ask the librarian.'))
    with pytest.raises(UserError, match=r'train_dataloader expects .*/train.*\nAsk the librarian'):
        environment.check_data(cfg, ('train_dataloader',))
    (tmp_path / 'train').mkdir()
    environment.check_data(cfg, ('train_dataloader',))


def test_data_inside_wrappers_are_checked_too(tmp_path):
    inner = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json')
    for wrapper in (dict(dataset=inner), dict(datasets=[dict(dataset=inner)])):
        cfg = Config(dict(train_dataloader=dict(dataset=wrapper)))
        with pytest.raises(UserError, match=r'a\.json'):
            environment.check_data(cfg, ('train_dataloader',))


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about machines without a GPU')
def test_cuda_where_there_is_none_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match='CUDA was asked for .* sees no GPU'):
        environment.choose_device('cuda', 'none')


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    with pytest.raises(UserError, match='8 processes .* 2 visible GPUs'):
        environment.choose_device('auto', 'pytorch')


def test_a_missing_checkpoint_is_an_error():
    with pytest.raises(UserError, match=r'There is no checkpoint nowhere\.pth'):
        environment.check_checkpoint('nowhere.pth')
    environment.check_checkpoint('hf://RuizeHe/weightformer-t')


def test_a_user_error_ends_a_tool_with_its_message_only():
    def main():
        raise UserError('try this')

    with pytest.raises(SystemExit, match='^error: try this$'):
        environment.run(main)


def test_a_user_error_of_a_data_loading_process_does_too():
    class Damaged(list):
        def __getitem__(self, index):
            raise UserError('the file: x.png')

    with pytest.raises(SystemExit, match='^error: the file: x.png$'):
        environment.run(lambda: next(iter(DataLoader(Damaged([0]), num_workers=1))))
