"""Segmentation heads other than UperNet: their sources, and runs at toy size (see toy.py)."""

import json
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from toy import shrink_segmentation, write_ade20k

from mmwf.commands import get_flops
from mmwf.commands import test as test_tool
from mmwf.commands import train as train_tool
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs/segmentation'
THEIRS = Path(mmseg.__file__).parent / '.mim/configs'
SUFFIX = '_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'
MASK2FORMER, SEGFORMER, FCN = (FOLDER / f'{n}{SUFFIX}' for n in ('mask2former', 'segformer', 'fcn'))
#: The config of mmseg that each docstring names.
SOURCES = {
    MASK2FORMER: 'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
    SEGFORMER: 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    FCN: 'segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py',
}

pytestmark = pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')


def load(path):
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    init_default_scope('mmseg')
    return cfg


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.stem.split('_')[0])
def test_the_head_is_the_one_of_mmseg(path):
    """Layers and settings are those of mmseg's config, at the width of our backbone."""
    cfg, theirs = load(path), Config.fromfile(THEIRS / SOURCES[path]).model.decode_head
    ours = MODELS.build(cfg.model).decode_head
    theirs.in_channels = cfg.model.decode_head.in_channels
    if path == FCN:
        theirs.channels = theirs.in_channels
    expected = MODELS.build(theirs)
    layers = [
        str(h).replace('Dropout(p=0.0, inplace=False)', 'Identity()') for h in (ours, expected)
    ]
    assert layers[0] == layers[1]
    for name in ('num_queries', 'num_points', 'oversample_ratio', 'importance_sample_ratio',
                 'class_weight', 'align_corners', 'in_index', 'ignore_index'):  # fmt: skip
        assert getattr(ours, name, None) == getattr(expected, name, None), name
    losses = [name for name, _ in ours.named_children() if name.startswith('loss_')]
    assert losses
    for name in losses:
        settings, expected_settings = (
            {k: v for k, v in vars(getattr(head, name)).items() if not callable(v) and k[0] != '_'}
            for head in (ours, expected)
        )
        assert settings == expected_settings, name
    for cost, expected_cost in zip(
        *(getattr(getattr(h, 'assigner', None), 'match_costs', []) for h in (ours, expected)),
        strict=True,
    ):
        assert vars(cost) == vars(expected_cost)


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.stem.split('_')[0])
def test_the_optimizer_is_the_one_of_its_source(path):
    cfg = load(path)
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    of = {id(p): group for group in optimizer.param_groups for p in group['params']}
    rates = {
        part: {of[id(p)]['lr'] for p in getattr(model, part).parameters()}
        for part in ('backbone', 'neck', 'decode_head')
        if hasattr(model, part)
    }
    if path == FCN:  # our recipe: that of the UperNet configs
        assert rates == dict(backbone={6e-5}, decode_head={6e-5})
        return
    theirs = Config.fromfile(THEIRS / SOURCES[path])
    lr = theirs.optim_wrapper.optimizer.lr
    factors = theirs.optim_wrapper.paramwise_cfg.custom_keys
    backbone = factors.get('backbone', dict(lr_mult=1.0))['lr_mult']
    head = factors.get('head', dict(lr_mult=1.0))['lr_mult']
    expected = dict(backbone=lr * backbone, neck=lr, decode_head=lr * head)
    assert {part: list(values) for part, values in rates.items()} == {
        part: [pytest.approx(value)] for part, value in expected.items()
    }
    for key in ('type', 'lr', 'weight_decay', 'betas'):
        assert cfg.optim_wrapper.optimizer[key] == theirs.optim_wrapper.optimizer[key]
    assert cfg.optim_wrapper.get('clip_grad') == theirs.optim_wrapper.get('clip_grad')
    assert cfg.param_scheduler[-1].power == theirs.param_scheduler[-1].power
    assert len(cfg.param_scheduler) == len(theirs.param_scheduler)
    assert cfg.train_cfg.max_iters == theirs.train_cfg.max_iters == 160000


@pytest.fixture(scope='module')
def ade20k(tmp_path_factory):
    return write_ade20k(tmp_path_factory.mktemp('ade20k'))


@pytest.mark.parametrize(
    ('path', 'options'), [(MASK2FORMER, ['--amp']), (SEGFORMER, []), (FCN, [])]
)
def test_it_trains_and_its_checkpoint_tests_as_in_training(path, options, ade20k, tmp_path):
    shrink_segmentation(Config.fromfile(path), ade20k).dump(tmp_path / 'toy.py')
    arguments = [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path)]
    train_tool.main([*arguments, *options])
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 2 and all(0 < loss < 1e4 for loss in losses)
    metrics = test_tool.main([arguments[0], str(tmp_path / 'iter_2.pth'), *arguments[1:]])
    assert metrics['mIoU'] == pytest.approx(records[-1]['mIoU'])
    assert {'mIoU', 'mAcc', 'aAcc', 'IoU.yellow'} <= set(metrics)


@torch.no_grad()
def test_mask2former_predicts_images_of_any_size(ade20k):
    cfg = shrink_segmentation(load(MASK2FORMER), ade20k)
    model = MODELS.build(cfg.model).eval()
    from mmseg.structures import SegDataSample

    for shape in ((33, 70), (64, 64), (7, 5)):
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        image = torch.randint(0, 256, (3, *shape)).float()
        (sample,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
        assert sample.seg_logits.data.shape == (3, *shape)
        assert torch.isfinite(sample.seg_logits.data).all()


def test_the_cost_of_mask2formers_head_is_not_counted_and_that_is_said(capsys):
    """Its forward pass also takes the samples."""
    get_flops.main([str(MASK2FORMER), '--shape', '64', '64'])
    printed = capsys.readouterr().out
    lines = dict(line.split()[:2] for line in printed.splitlines() if line.endswith(' G'))
    assert 'decode_head' not in lines
    parts = float(lines['backbone']) + float(lines['neck'])
    assert float(lines['total']) == pytest.approx(parts, abs=2e-3)  # rounded
    assert float(lines['neck']) > 0
    assert 'Only backbone and neck of the EncoderDecoder are counted.' in printed
