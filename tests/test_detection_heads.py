"""Configs that combine WeightFormer with heads other than R-CNN's: recipes, training, testing.

tests/test_detection.py takes steps with them in bf16.
"""

import json
import re
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from helpers import read_metrics
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from toy import CLASSES, shrink_detection, write_coco
from toy_heads import write_panoptic

from mmwf.commands import test as test_tool
from mmwf.commands import train as train_tool
from mmwf.datasets.checks import check_coco
from mmwf.datasets.checks.coco_panoptic import check_maps
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

FOLDER = Path(__file__).parents[1] / 'configs/detection'
RETINANET = 'retinanet_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
FCOS = 'fcos_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
DINO = 'dino_weightformer-tiny-p16_8xb2-lsj-12e_coco.py'
INSTANCE = 'mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco.py'
PANOPTIC = 'mask2former_weightformer-tiny-p16_8xb2-lsj-50e_coco-panoptic.py'
COCO_IMAGES = 118_000

pytestmark = pytest.mark.filterwarnings(
    'ignore:faster_coco_eval', 'ignore:torch.meshgrid', 'ignore:__floordiv__'
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)  # data transforms


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_panoptic(write_coco(tmp_path_factory.mktemp('coco')))


@pytest.fixture
def load(coco):
    def load(name):
        cfg = shrink_detection(Config.fromfile(FOLDER / name), coco)
        import_task_library(cfg)
        init_default_scope(cfg.default_scope)
        return cfg

    return load


def build(name):
    """Builds a model at full size."""
    cfg = Config.fromfile(FOLDER / name)
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model), cfg


@pytest.mark.parametrize(
    ('name', 'metrics'),
    [
        *((name, {'coco/bbox_mAP'}) for name in (RETINANET, FCOS, DINO)),
        (INSTANCE, {'coco/bbox_mAP', 'coco/segm_mAP'}),
        (PANOPTIC, {'coco_panoptic/PQ', 'coco_panoptic/PQ_th', 'coco_panoptic/PQ_st'}),
    ],
)
def test_it_trains_validates_and_is_tested(load, name, metrics, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load(name).dump('toy.py')
    train_tool.main(['toy.py', '--work-dir', 'out'])
    (log,) = Path('out').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 2 and all(np.isfinite(losses)) and min(losses) > 0
    assert list(Path('out').glob('best_coco*_iter_2.pth'))  # by the first metric
    tested = test_tool.main(
        ['toy.py', 'out/iter_2.pth', '--work-dir', 'out', '--out', 'metrics.json', 'all.pkl']
        + ['--show-dir', 'pictures']
    )
    assert metrics <= tested.keys() and read_metrics('metrics.json') == tested
    assert {key: value for key, value in records[-1].items() if key in metrics} == {
        key: tested[key] for key in metrics
    }
    assert len(list(Path('pictures').rglob('*.png'))) == 4


def test_the_panoptic_quality_of_the_ground_truth_without_one_image(load):
    from mmdet.evaluation.functional import INSTANCE_OFFSET
    from mmdet.registry import METRICS

    cfg = load(PANOPTIC)
    image, _, pack = cfg.test_dataloader.dataset.pipeline
    pack.meta_keys = ('img_id', 'img_path', 'ori_shape')
    pipeline = [image, dict(type='LoadPanopticAnnotations'), pack]
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, pipeline=pipeline))
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    segments = {0: [], 1: []}  # the images with the thing, and with the stuff
    for index, data in enumerate(dataset):
        truth = data['data_samples'].gt_sem_seg.sem_seg.int()
        void = torch.full_like(truth, len(CLASSES))
        predicted = void if index == 1 else torch.where(truth == 255, void, truth)
        predicted[predicted == 0] += INSTANCE_OFFSET  # the first instance
        sample = data['data_samples'].metainfo
        metric.process({}, [dict(sample, pred_panoptic_seg=dict(sem_seg=predicted))])
        for label, images in segments.items():
            images += [index] if (truth == label).any() else []
    metrics = metric.evaluate(len(dataset))
    assert segments == {0: [0, 1, 2, 3], 1: [1, 3]}
    things, stuff = 3 / (3 + 1 / 2), 1 / (1 + 1 / 2)
    assert metrics['coco_panoptic/PQ_th'] == pytest.approx(100 * things)
    assert metrics['coco_panoptic/PQ_st'] == pytest.approx(100 * stuff)
    assert metrics['coco_panoptic/PQ'] == pytest.approx(100 * (things + stuff) / 2)
    assert metrics['coco_panoptic/SQ'] == pytest.approx(100)


def test_the_readme_says_which_class_counts_to_set(coco, tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', (FOLDER / 'README.md').read_text(), re.DOTALL)
    (block,) = (block for block in blocks if 'panoptic_fusion_head' in block)
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {str(FOLDER / INSTANCE)!r}\nclasses = {CLASSES}\n{block}')
    model = Config.fromfile(path).model
    assert len(model.panoptic_head.loss_cls.class_weight) == len(CLASSES) + 1
    cfg = shrink_detection(Config.fromfile(FOLDER / INSTANCE), coco)
    for head in ('panoptic_head', 'panoptic_fusion_head'):
        cfg.model[head] = model[head]
    check_coco(cfg, ('train_dataloader', 'val_dataloader'))


@pytest.mark.parametrize('name', [RETINANET, FCOS, DINO, INSTANCE, PANOPTIC])
def test_the_pyramid_has_the_strides_that_the_head_expects(name):
    model, cfg = build(name)
    if name == DINO:  # which counts levels only
        strides = [8, 16, 32, 64]
        assert model.num_feature_levels == len(strides)
    elif name == RETINANET:
        strides = cfg.model.bbox_head.anchor_generator.strides
    else:
        strides = (cfg.model.get('bbox_head') or cfg.model.panoptic_head).strides
    outs = model.neck(torch.zeros(1, 192, 8, 8))  # of an image of 128 x 128
    assert [128 // out.shape[-1] for out in outs] == strides


@pytest.mark.parametrize('name', [RETINANET, FCOS])
def test_a_one_stage_detector_has_vitdets_schedule(name):
    cfg, vitdet = (
        Config.fromfile(FOLDER / path)
        for path in (name, 'vitdet-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py')
    )
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert cfg[key] == vitdet[key], key


@pytest.mark.parametrize(
    ('name', 'weight_decay', 'clip', 'steps'),
    [
        (DINO, 1e-4, 0.1, [11 / 12]),
        (INSTANCE, 0.05, 0.01, [8 / 9, 26 / 27]),
        (PANOPTIC, 0.05, 0.01, [8 / 9, 26 / 27]),
    ],
)
def test_the_recipe_is_mmdets(name, weight_decay, clip, steps):
    cfg = Config.fromfile(FOLDER / name)
    gpus, batch, epochs = map(int, re.search(r'_(\d+)xb(\d+)-lsj-(\d+)e', name).groups())
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_cfg.max_iters == epochs * COCO_IMAGES // 16
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert cfg.optim_wrapper.optimizer.weight_decay == weight_decay
    assert cfg.optim_wrapper.clip_grad.max_norm == clip
    (decay,) = cfg.param_scheduler
    milestones = [m / cfg.train_cfg.max_iters for m in decay.milestones]
    assert milestones == pytest.approx(steps, abs=1e-4)


EMBEDDINGS = {f'panoptic_head.{k}.weight' for k in ('level_embed', 'query_embed', 'query_feat')}


@pytest.mark.parametrize('name', [INSTANCE, PANOPTIC])
def test_mask2formers_norms_and_embeddings_do_not_decay(name):
    model, cfg = build(name)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm)
    spared = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    assert EMBEDDINGS.issubset(key for key, _ in model.named_parameters())
    for key, parameter in model.named_parameters():
        if key.startswith('panoptic_head.'):
            without = id(parameter) in spared or key in EMBEDDINGS
            assert decay[id(parameter)] == (0 if without else 0.05), key


#: Values that mmdet's configs state although they are its defaults.
DEFAULTS = dict(
    act_cfg=dict(type='ReLU', inplace=True),
    batch_first=True,
    dcn_on_last_conv=False,
    num_fcs=2,
    reduction='mean',
)


def differences(ours, theirs, path=''):
    """Yields the keys of the values in the second config that are not in the first."""
    for key, value in theirs.items():
        name = f'{path}.{key}' if path else key
        if isinstance(value, dict) and isinstance(ours.get(key), dict):
            yield from differences(ours[key], value, name)
        elif value is not None and ours.get(key, DEFAULTS.get(key)) != value:
            yield name


@pytest.mark.parametrize(
    ('name', 'path', 'expected'),
    [
        (RETINANET, 'retinanet/retinanet_r50_fpn_8xb8-amp-lsj-200e_coco.py', set()),
        (
            FCOS,
            'fcos/fcos_r50_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py',
            set(),
        ),
        (DINO, 'dino/dino-4scale_r50_8xb2-12e_coco.py', set()),
        (
            INSTANCE,
            'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
            {'panoptic_head.in_channels'},  # a pyramid of equal widths
        ),
        (
            PANOPTIC,
            'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
            {'panoptic_head.in_channels', 'test_cfg.instance_on'},  # tested for PQ only
        ),
    ],
)
def test_the_head_is_that_of_mmdets_config(name, path, expected):
    configs = Path(mmdet.__file__).parent / '.mim/configs'
    ours, theirs = (Config.fromfile(p).model for p in (FOLDER / name, configs / path))
    assert ours.keys() >= {key for key, value in theirs.items() if value is not None}
    for key in ('backbone', 'neck', 'data_preprocessor'):
        theirs.pop(key, None)
    assert set(differences(ours, theirs)) == expected


def test_panoptic_maps_that_are_elsewhere_are_named(tmp_path):
    dataset = dict(data_root=str(tmp_path), data_prefix=dict(seg='maps'))
    with pytest.raises(UserError, match=f'no folder {tmp_path}/maps with the panoptic maps'):
        check_maps('train_dataloader', dataset, tmp_path / 'a.json', dict(images=[]))
