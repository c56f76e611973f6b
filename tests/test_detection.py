"""The detection configs: recipes, and training and testing at toy size (see toy.py).

Data and recipes of the heads other than R-CNN are in test_detection_heads.py.
"""

import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import InstanceData
from toy import (
    IMAGE_SIZE,
    WIDTH,
    shrink_detection,
    start_training,
    write_coco,
)
from toy_heads import write_panoptic

from mmwf.apis.conversion import convert_deit
from mmwf.commands import test as test_tool
from mmwf.commands import train as train_tool
from mmwf.datasets.checks import check_coco, check_data
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs/detection'
LEAVES = sorted(path.name for path in FOLDER.glob('*.py'))
CASCADE = 'vitdet-cascade-mask-rcnn_weightformer-tiny-p16_16xb4-amp-lsj-100e_coco.py'
DEIT = CASCADE.replace('weightformer', 'deit')

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


def batch(cfg, split, indices):
    dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
    return pseudo_collate([dataset[i] for i in indices])


@pytest.mark.parametrize('name', LEAVES)
def test_a_step_in_bf16_has_a_finite_loss_and_updates_every_parameter(load, name):
    cfg = load(name)
    amp = cfg.optim_wrapper.get('type') == 'mmwf.AmpOptimWrapper'
    assert amp == ('-amp-' in name or name.startswith('example'))
    cfg.optim_wrapper.type = 'mmwf.AmpOptimWrapper'  # as --amp does
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert optim_wrapper.cast_dtype == torch.bfloat16 or torch.cuda.is_available()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        losses = model.train_step(batch(cfg, 'train', [0, 1]), optim_wrapper)
    assert torch.isfinite(losses['loss'])
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


@pytest.mark.parametrize('name', [name for name in LEAVES if name.startswith('vitdet')])
def test_the_recipe_is_vitdets(name):
    cfg = Config.fromfile(FOLDER / name)
    gpus, batch, epochs = map(int, re.search(r'_(\d+)xb(\d+)-amp-lsj-(\d+)e', name).groups())
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.train_dataloader.batch_size == batch
    iterations = epochs * 118_000 // 64
    assert cfg.train_cfg.max_iters == iterations
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, steps.gamma) == (1e-3, 250, 0.1)
    assert [m / iterations for m in steps.milestones] == pytest.approx([8 / 9, 26 / 27], abs=1e-4)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 0.1)
    assert 'clip_grad' not in cfg.optim_wrapper

    _, _, flip, resize, crop, keep, _ = cfg.train_dataloader.dataset.pipeline
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    assert (resize.type, resize.ratio_range, resize.keep_ratio) == ('RandomResize', (0.1, 2), True)
    assert crop.recompute_bbox and crop.allow_negative_crop and not keep.keep_empty
    sizes = {resize.scale, crop.crop_size, cfg.test_dataloader.dataset.pipeline[1].scale}
    assert sizes == {(1024, 1024)}

    model, rpn = cfg.model, cfg.model.rpn_head
    assert model.data_preprocessor.bgr_to_rgb and model.data_preprocessor.pad_size_divisor == 1024
    assert model.backbone.drop_path_rate == 0.1 and not model.backbone.get('final_norm')
    assert (rpn.num_convs, rpn.loss_bbox.type, rpn.anchor_generator.scales) == (2, 'L1Loss', [8])
    assert model.train_cfg.rpn.allowed_border == -1
    assert [model.train_cfg.rpn_proposal[k] for k in ('nms_pre', 'max_per_img')] == [2000, 1000]
    assert [model.test_cfg.rpn[k] for k in ('nms_pre', 'max_per_img')] == [1000, 1000]
    test = model.test_cfg.rcnn
    assert (test.score_thr, test.nms.iou_threshold, test.max_per_img) == (0.05, 0.5, 100)
    cascade = model.type == 'CascadeRCNN'
    heads = model.roi_head.bbox_head if cascade else [model.roi_head.bbox_head]
    stds = [head.bbox_coder.target_stds for head in heads]
    weights = [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    assert [tuple(round(1 / std) for std in of_head) for of_head in stds] == weights[: len(heads)]
    for head in heads:
        assert head.loss_bbox.type == 'L1Loss' and head.reg_class_agnostic == cascade
        assert head.norm_cfg == dict(type='mmwf.LayerNorm2d', eps=1e-6)
    if cascade:
        assert [stage.assigner.pos_iou_thr for stage in model.train_cfg.rcnn] == [0.5, 0.6, 0.7]
        assert model.roi_head.stage_loss_weights == [1 / 3] * 3  # as detectron2 scales gradients


@pytest.mark.parametrize('name', LEAVES)
def test_the_layer_decay_is_that_of_the_recipe(load, name):
    cfg = Config.fromfile(FOLDER / name)  # full size
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    of = {id(p): group for group in optimizer.param_groups for p in group['params']}
    rate, depth = (0.7, 12) if 'deit' in name else (0.777, 17)
    scale, weight_decay = (cfg.optim_wrapper.optimizer[key] for key in ('lr', 'weight_decay'))
    patches = next(model.backbone.patch_embed.parameters())
    assert of[id(patches)]['lr'] == pytest.approx(scale * rate ** (depth + 1))
    last = (model.backbone.layers if 'deit' in name else model.backbone.blocks)[-1]
    assert all(of[id(p)]['lr'] == pytest.approx(scale * rate) for p in last.parameters())
    for key, parameter in model.named_parameters():
        if not key.startswith('backbone.'):
            assert of[id(parameter)]['lr'] == scale
            if 'mask2former' not in name:  # see test_detection_heads.py
                assert of[id(parameter)]['weight_decay'] == weight_decay
        elif 'deit' in name:
            spared = key == 'backbone.pos_embed' or '.ln' in key
            assert of[id(parameter)]['weight_decay'] == (0 if spared else weight_decay), key
        else:
            expected = 0 if parameter.ndim == 1 else weight_decay
            assert of[id(parameter)]['weight_decay'] == expected, key


@pytest.mark.parametrize('name', [name for name in LEAVES if 'weightformer-tiny' in name])
def test_batches_without_objects_train(load, name):
    cfg = load(name)
    model = MODELS.build(cfg.model)
    model.init_weights()
    data = batch(cfg, 'train', [0, 1])
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[torch.zeros(len(sample.gt_instances)).bool()]
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    loss = model.parse_losses(losses)[0]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in model.parameters())  # as DDP requires


def test_images_are_padded_with_zeros_to_one_size(load):
    cfg = load(CASCADE)
    model = MODELS.build(cfg.model)
    for split, training in (('train', True), ('test', False)):
        data = batch(cfg, split, [0])
        height, width = data['inputs'][0].shape[-2:]
        inputs = model.data_preprocessor(data, training)['inputs']
        assert inputs.shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
        assert (height, width) != (IMAGE_SIZE, IMAGE_SIZE) or training
        assert not inputs[:, :, height:].any() and not inputs[:, :, :, width:].any()


def test_other_images_of_the_batch_do_not_change_the_boxes(load):
    cfg = load(CASCADE)
    model = MODELS.build(cfg.model).eval()
    indices = [0, 1, 2, 3]
    together = model.test_step(batch(cfg, 'test', indices))
    assert len({sample.ori_shape for sample in together}) == 4  # different shapes
    for index, sample in zip(indices, together, strict=True):
        (alone,) = model.test_step(batch(cfg, 'test', [index]))
        a, b = alone.pred_instances, sample.pred_instances
        assert len(a) > 0
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(a.labels, b.labels)


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint of mmpretrain's DeiT at toy size."""
    import_task_library(Config(dict(default_scope='mmpretrain')))
    arch = dict(embed_dims=WIDTH, num_layers=3, num_heads=2, feedforward_channels=2 * WIDTH)
    backbone = MODELS.build(dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=32))
    torch.nn.init.normal_(backbone.pos_embed)
    path = tmp_path / 'deit.pth'
    state_dict = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save({'state_dict': {**state_dict, 'head.layers.head.bias': torch.zeros(3)}}, path)
    return str(path)


def train_from(load, checkpoint):
    """Starts to train the toy detector from a checkpoint; returns the model."""
    cfg = load(DEIT)
    init_cfg = dict(Config.fromfile(FOLDER / DEIT).model.backbone.init_cfg)
    cfg.model.backbone.init_cfg = dict(init_cfg, checkpoint=checkpoint)
    model = MODELS.build(cfg.model)
    start_training(model)
    return model


def test_deit_starts_from_a_converted_classifier(load, classifier, tmp_path):
    converted = str(tmp_path / 'checkpoints/vitdet.pth')
    convert_deit(classifier, converted)
    ours = train_from(load, converted).backbone.state_dict()
    theirs = torch.load(classifier)['state_dict']
    shared = [key for key in ours if key != 'pos_embed' and 'backbone.' + key in theirs]
    assert set(ours) - set(shared) == {'pos_embed'}
    assert all(torch.equal(ours[key], theirs['backbone.' + key]) for key in shared)
    positions = theirs['backbone.pos_embed'][:, 1:].reshape(1, 2, 2, WIDTH).permute(0, 3, 1, 2)
    size = ours['pos_embed'].shape[1:3]
    expected = F.interpolate(positions, size=size, mode='bicubic', align_corners=False)
    torch.testing.assert_close(ours['pos_embed'], expected.permute(0, 2, 3, 1))


def test_an_unconverted_classifier_is_refused(load, classifier):
    """MMEngine alone would load none of its weights and train."""
    with pytest.raises(UserError, match=r'deit\.pth does not fit this ViTSAM.*: 0 of \d+ keys'):
        train_from(load, classifier)


@pytest.mark.parametrize(
    ('name', 'file', 'command'),
    [
        (CASCADE, 'weightformer-tiny_in1k.pth', 'official-to-mmwf'),
        (DEIT, 'deit-tiny_in1k_vitdet.pth', 'deit-to-vitdet'),
    ],
)
def test_without_the_pretrained_weights_training_stops_and_says_what_to_do(
    coco, name, file, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(FOLDER / name)
    init_cfg = deepcopy(cfg.model.backbone.init_cfg)
    shrink_detection(cfg, coco).model.backbone.init_cfg = init_cfg
    cfg.dump('toy.py')
    with pytest.raises(UserError, match=f'no checkpoint checkpoints/{file}') as error:
        train_tool.main(['toy.py', '--work-dir', 'out'])
    assert re.search(f'mmwf {command} \\S+ checkpoints/{file}\n', str(error.value))
    assert str(error.value).endswith('add --cfg-options model.backbone.init_cfg=None.')
    assert not Path('out').exists()


def test_the_example_needs_only_data_in_its_folder(tmp_path, monkeypatch):
    name = 'example_own-dataset.py'
    cfg = Config.fromfile(FOLDER / name)
    monkeypatch.chdir(tmp_path)
    loaders = ('train_dataloader', 'val_dataloader')
    with pytest.raises(UserError, match=r'train_dataloader expects data/own') as error:
        check_data(cfg, loaders)
    assert 'see configs/detection/README.md' in str(error.value)
    assert 'cocodataset.org' not in str(error.value)
    write_coco(tmp_path / 'data/own', classes=cfg.classes)
    check_data(cfg, loaders)
    check_coco(cfg, loaders)
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size  # on one GPU
    code = (FOLDER / name).read_text().split('"""')[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith('#')]
    assert len(lines) <= 25


def test_train_and_test_with_tta(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load(CASCADE)
    cfg.dump('toy.py')
    train_tool.main(['toy.py', '--work-dir', 'out'])
    assert Path('out/iter_2.pth').exists()
    metrics = test_tool.main(['toy.py', 'out/iter_2.pth', '--work-dir', 'out', '--tta'])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)


def views_of(instances, shape):
    """Yields a sample as predicted from the image and from each of its flips."""
    from mmdet.structures import DetDataSample

    height, width = shape
    for direction in (None, 'horizontal', 'vertical', 'diagonal'):
        view = deepcopy(instances)
        if direction in ('horizontal', 'diagonal'):
            view.bboxes[:, [0, 2]] = width - view.bboxes[:, [2, 0]]
            view.masks = view.masks.flip(2)
        if direction in ('vertical', 'diagonal'):
            view.bboxes[:, [1, 3]] = height - view.bboxes[:, [3, 1]]
            view.masks = view.masks.flip(1)
        metainfo = dict(ori_shape=shape, flip=direction is not None, flip_direction=direction)
        yield DetDataSample(metainfo=metainfo, pred_instances=view)


class Oracle(BaseModel):
    """A detector that returns the instances already in the samples."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert not any(sample.flip for sample in data_samples)
        return data_samples


def merge(views, **kwargs):
    model = MODELS.build(dict(type='mmwf.InstanceTTAModel', module=Oracle(), **kwargs))
    inputs = [[torch.zeros(3, *view.ori_shape)] for view in views]
    (merged,) = model.test_step(dict(inputs=inputs, data_samples=[[view] for view in views]))
    return merged.pred_instances


@pytest.fixture
def instances():
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0], [3.0, 1.0, 9.0, 7.0], [1.0, 2.0, 5.0, 6.0]])
    masks = torch.zeros(3, 8, 10, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1 : x2 - 1] = True  # not symmetric
    return InstanceData(
        bboxes=boxes,
        masks=masks,
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 0, 1]),
    )


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ('bboxes', 'masks', 'scores', 'labels'))


def test_flipped_views_merge_to_the_original_instances(instances):
    views = list(views_of(instances, (8, 10)))
    assert all(same(merge([deepcopy(view)]), instances) for view in views)
    assert same(merge(views), instances)
    assert same(merge(list(views_of(instances, (8, 10))), max_per_img=2), instances[:2])


def test_views_without_detections_merge_to_no_detections():
    empty = InstanceData(
        bboxes=torch.zeros(0, 4),
        masks=torch.zeros(0, 8, 10, dtype=torch.bool),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long),
    )
    assert len(merge(list(views_of(empty, (8, 10))))) == 0
