"""Mistakes in configs and options: one line each, before data and model are loaded."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmwf.commands import main, test, train
from mmwf.commands._common import read_config
from mmwf.engine import config_checks
from mmwf.engine.config import load_config
from mmwf.engine.config_checks import check_config, check_model, check_options
from mmwf.errors import UserError

CLASSIFIER = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'
DETECTOR = (
    'configs/quickstart/vitdet-cascade-mask-rcnn_weightformer-w64d8-p4_1xb16-300i_scenes-64px.py'
)
CONFIGS = Path(__file__).parents[2] / 'configs'
NO_WEIGHTS = 'model.backbone.init_cfg=None'
#: Options that are wrong, and what is said about them. The data do not exist, which would be said
#: if the mistakes were found later.
MISTAKES = {
    'train_dataloader.batch_size=0': r'train_dataloader\.batch_size to be an integer from 1, got 0',
    'train_dataloader.num_workers=-1': r'num_workers to be an integer from 0, got -1',
    'train_dataloader.batchsize=3': r"no setting 'batchsize'\. Did you mean batch_size",
    'train_dataloader.sampler.shufle=1': r"no argument 'shufle'\. Did you mean shuffle",
    'train_dataloader.sampler.type=DefaultSampla': r'Did you mean DefaultSampler',
    'model.backbone.archh=tiny': r"WeightFormer has no argument 'archh' .* Did you mean arch\?",
    'model.backbone.arch=tinny': r"got 'tinny'\. Did you mean tiny\?",
    'model.backbone.type=mmwf.WeightFormr': r"mmwf\.WeightFormr'\. Did you mean mmwf\.WeightFormer",
    'model.type=ImageClasifier': r'Did you mean ImageClassifier',
    'model.head.num_clases=3': r"LinearClsHead has no argument 'num_clases' .* Did you mean num_cl",
    'optim_wrapper.optimizer.lrr=3': r"AdamW has no argument 'lrr'\. Did you mean lr\?",
    'optim_wrapper.optimizer.type=AdmW': r'There is no optimizer .*Did you mean .*AdamW',
    'default_hooks.loger.interval=3': r'default_hooks\.loger has no type\. Did you mean logger',
    'default_hooks.logger.intervall=3': r"no argument 'intervall'\. Did you mean interval",
    'default_hooks.checkpoint.intervall=3': r"no argument 'intervall'\. Did you mean interval",
    'train_cfg.max_epochs=0': r'train_cfg\.max_epochs to be an integer from 1, got 0',
    'train_cfg.val_interval=0': r'train_cfg\.val_interval to be an integer from 1, got 0',
    'train_cfg.max_epoch=3': r"no argument 'max_epoch'\. Did you mean max_epochs",
    'val_evaluator.topkk=1': r'val_evaluator\.topkk: .* Did you mean topk',
    'train_cgf.max_epochs=3': r"knows 'train_cgf'.* Did you mean train_cfg",
    'lr=0.1': r"knows 'lr'.* Did you mean optim_wrapper\.optimizer\.lr\?",
    'param_scheduler.5.T_max=3': r'param_scheduler is a list of 2; expected param_scheduler\.0 to',
    'param_scheduler.T_max=3': r'param_scheduler is a list of 2; expected .* got param_sch',
    'param_scheduler.0.T_maxx=3': r'param_scheduler\.0\.T_maxx: .* Did you mean T_max',
    'param_scheduler.1.type=LinerLR': r"param_scheduler\.1: .*'LinerLR'\. Did you mean .*LinearLR",
    'model.type.x=3': r"model\.type is 'ImageClassifier', neither a dict nor a list",
    'load_from=epoch_20.pth': r'There is no checkpoint epoch_20\.pth .*Did you mean epoch_2\.pth',
}


def error_of(command, monkeypatch):
    """Runs a command, which must end with an error; returns it."""
    monkeypatch.setattr(sys, 'argv', ['mmwf', *map(str, command)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return str(exit_.value.code)


@pytest.mark.parametrize(('option', 'message'), MISTAKES.items())
def test_a_mistake_in_the_options_is_one_line(option, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'epoch_2.pth').touch()
    error = error_of(['train', CLASSIFIER, '--cfg-options', option], monkeypatch)
    assert re.fullmatch(f'error: .*{message}.*', error), error
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.roi_head.bbox_head.3.num_classes=2', r'bbox_head is a list of 3; expected .*\.2'),
        ('model.roi_head.bbox_head.num_classes=2', r'bbox_head is a list of 3; expected .*\.0'),
        ('model.neck.out_chanels=2', r"SimpleFPN has no argument 'out_chanels' .* out_channels"),
        ('model.roi_head.bbox_head.1.num_clases=2', r"no argument 'num_clases' .* num_classes"),
    ],
)
def test_a_mistake_in_a_detector_is_one_line(option, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = error_of(['train', DETECTOR, '--cfg-options', NO_WEIGHTS, option], monkeypatch)
    assert re.fullmatch(f'error: .*{message}.*', error), error


def test_lengths_may_be_written_as_powers_of_ten():
    cfg = load_config(DETECTOR, {'train_cfg.max_iters': 1e4})
    check_config(cfg)
    cfg.train_cfg.max_iters = 1.5
    with pytest.raises(UserError, match=r'max_iters to be an integer from 1, got 1\.5'):
        check_config(cfg)


def test_an_index_into_an_empty_list_is_an_error():
    with pytest.raises(UserError, match=r'custom_hooks is a list of 0, got custom_hooks\.0\.$'):
        check_options(Config(dict(custom_hooks=[])), {'custom_hooks.0.type': 'EMAHook'})


def test_an_option_without_a_value_is_one_line(capsys):
    for text in ('lr', 'a=[1,2'):
        with pytest.raises(SystemExit) as exit_:
            train.parse_args([CLASSIFIER, '--cfg-options', text])
        assert exit_.value.code == 2
        assert capsys.readouterr().err.endswith(f'expected KEY=VALUE, got {text!r}\n')
    args = train.parse_args([CLASSIFIER, '--cfg-options', 'a=1', 'b.c=[1,2]'])
    assert args.cfg_options == {'a': 1, 'b.c': [1, 2]}


@pytest.mark.parametrize(
    'option',
    [
        'load_from=x.pth', 'find_unused_parameters=True', 'data_help=x', 'optim_wrapper.dtype=x',
        'param_scheduler.0.T_max=3', 'param_scheduler=None', 'work_dir=x', 'auto_scale_lr.enable=1',
    ],
)  # fmt: skip
def test_known_keys_are_accepted(option):
    key, value = option.split('=')
    cfg = load_config(CLASSIFIER, {key: value})
    assert cfg.get(key) == value or '.' in key


@pytest.mark.parametrize('command', [train, test])
def test_an_unwritable_work_dir_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('no folder')
    checkpoint = ['file'] if command is test else []
    with pytest.raises(UserError, match=r'work dir file/run: .*/file is not a folder.*--work-dir'):
        command.main([CLASSIFIER, *checkpoint, '--work-dir', 'file/run'])


def write_chain(folder, base, child="_base_ = 'base.py'\nb = 2\n"):
    (folder / 'base.py').write_text(base)
    (folder / 'child.py').write_text(child)
    return folder / 'child.py'


@pytest.mark.parametrize(
    ('base', 'child', 'message'),
    [
        ('a = 1\nb = dict(\n', None, r'base\.py, line 2: .*never closed'),
        ('a = 1', 'a = 1\n\nb == = 3\n', r'child\.py, line 3: invalid syntax: b == = 3'),
        ('a = 1', "_base_ = 'base.py'\nb = 1\nc = missing\n", r'child\.py, line 3: NameError: .*'),
        ('a = 1', "_base_ = 'bas.py'\n", r'child\.py inherits from .*bas\.py, .*mean base\.py\?'),
        ("custom_imports = dict(imports=['no_mod'])", None, "ModuleNotFoundError: .*'no_mod'"),
    ],
)
def test_a_mistake_in_a_config_names_file_and_line(base, child, message, tmp_path):
    path = write_chain(tmp_path, base, **({'child': child} if child else {}))
    with pytest.raises(UserError) as error:
        load_config(path)
    assert re.search(message, str(error.value)), error.value
    assert len(str(error.value).splitlines()) == 1


def test_a_config_that_does_not_exist_is_one_line():
    with pytest.raises(UserError, match=r'There is no config none\.py\.'):
        read_config(train.parse_args(['none.py']))


def with_backend(kind):
    cfg = load_config(CLASSIFIER)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend'), dict(type=kind)]
    return cfg


def test_tensorboard_that_is_missing_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(config_checks, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'tensorboard is not installed: pip install .*\[tensorb'):
        check_config(with_backend('TensorboardVisBackend'))
    check_config(with_backend('LocalVisBackend'))
    monkeypatch.setattr(config_checks, 'find_spec', importlib.util.find_spec)
    if importlib.util.find_spec('tensorboard'):
        check_config(with_backend('TensorboardVisBackend'))


def test_a_factor_of_0_is_refused_where_it_does_not_freeze():
    paramwise = dict(custom_keys=dict(backbone=dict(lr_mult=0.0)))
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=paramwise)
    schedule = [dict(type='CosineAnnealingLR', T_max=3, eta_min=1e-5)]
    with pytest.raises(UserError, match=r'lr_mult=0 for backbone.*frozen_stages'):
        check_config(Config(dict(optim_wrapper=wrapper, param_scheduler=schedule)))
    wrapper['constructor'] = 'mmwf.OptimWrapperConstructor'
    check_config(Config(dict(optim_wrapper=wrapper, param_scheduler=schedule)))


#: Settings that are valid, as configs of mmdet and mmpretrain have them.
VALID = {
    'lr_mult=0 with steps': dict(
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1),
            paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.0))),
        ),
        param_scheduler=[dict(type='MultiStepLR', milestones=[3])],
    ),
    'priority of a hook': dict(
        custom_hooks=[dict(type='EmptyCacheHook', after_iter=True, priority='VERY_LOW')]
    ),
    'evaluator with metrics': dict(
        val_evaluator=dict(type='Evaluator', metrics=[dict(type='DumpResults', out_file_path='a')])
    ),
}


@pytest.mark.parametrize('settings', VALID.values(), ids=VALID)
def test_valid_settings_pass(settings):
    check_config(Config(settings))


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('[!_]*/*.py')), ids=lambda path: path.stem)
def test_every_shipped_config_passes(path):
    cfg = load_config(path)
    check_config(cfg)
    if 'quickstart' in path.parts:  # the others take seconds to build
        check_model(cfg)


def test_checking_the_model_says_nothing(capsys):
    cfg = load_config('configs/classification/weightformer-tiny-p16_8xb256_in1k.py')
    check_model(cfg)
    assert capsys.readouterr() == ('', '')


def test_none_may_be_replaced_by_a_dict():
    cfg = Config(dict(model=dict(vae=None)))
    check_options(cfg, {'model.vae._delete_': True, 'model.vae.type': 'mmwf.VAE'})
    with pytest.raises(UserError, match=r'model\.vae is None'):
        check_options(cfg, {'model.vae.type': 'mmwf.VAE'})
