"""The segmentation configs: recipes, and training and testing at toy size (see toy.py)."""

import hashlib
import json
import re
import sys
from copy import deepcopy
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import difference, read_metrics, run, run_tool, weights
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, PARAM_SCHEDULERS, init_default_scope
from toy import (
    IMAGE_SIZE,
    SEGMENTATION_CLASSES,
    WIDTH,
    shrink_segmentation,
    start_training,
    write_ade20k,
)

from mmwf.commands import train as train_tool
from mmwf.datasets.checks import check_datasets
from mmwf.engine.device import set_up_processes
from mmwf.errors import UserError
from mmwf.libraries import import_task_library
from mmwf.models import WeightFormer

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs/segmentation'
LEAVES = sorted(path.name for path in FOLDER.glob('*.py'))
UPERNETS = [name for name in LEAVES if name.startswith('upernet')]
TINY = 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'
WHOLE = TINY.replace('.py', '-whole.py')
DEIT = TINY.replace('weightformer', 'deit')

pytestmark = pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)  # data transforms


@pytest.fixture(scope='module')
def ade20k(tmp_path_factory):
    return write_ade20k(tmp_path_factory.mktemp('ade20k'))


def prepare(cfg):
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.fixture
def load(ade20k):
    return lambda name: prepare(shrink_segmentation(Config.fromfile(FOLDER / name), ade20k))


def batch(cfg, split, indices):
    dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
    return pseudo_collate([dataset[i] for i in indices])


@pytest.mark.parametrize('name', LEAVES)
def test_a_step_has_a_finite_loss_and_updates_every_parameter(load, name):
    cfg = load(name)
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        losses = model.train_step(batch(cfg, 'train', [0, 1]), optim_wrapper)
    assert torch.isfinite(losses['loss'])
    assert all(loss > 0 for name, loss in losses.items() if 'loss' in name)
    assert ('aux.loss_ce' in losses) == ('auxiliary_head' in cfg.model)
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


@pytest.mark.parametrize('name', UPERNETS)
def test_the_recipe(name):
    cfg = prepare(Config.fromfile(FOLDER / name))
    gpus, per_gpu, thousands = map(int, re.search(r'_(\d+)xb(\d+)-(\d+)k_', name).groups())
    lr, decay = (2e-4, 0.1) if '-60k' in name else (6e-5, 0.01)
    assert cfg.train_dataloader.batch_size == per_gpu
    assert gpus * per_gpu == cfg.auto_scale_lr.base_batch_size
    assert cfg.train_cfg.max_iters == thousands * 1000
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=lr, weight_decay=decay, betas=(0.9, 0.999)
    )
    assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
    assert 'type' not in cfg.optim_wrapper  # fp32
    assert cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.model.auxiliary_head.in_index == 2
    losses = [cfg.model[head].loss_decode.loss_weight for head in ('decode_head', 'auxiliary_head')]
    assert losses == [1.0, 0.4]
    if '-whole' not in name:
        assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    model = MODELS.build(cfg.model)
    width = model.backbone.embed_dims
    assert model.decode_head.channels == width == (384 if 'small' in name else 192)
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert list(model.decode_head.in_channels) == [width] * 4
    assert tuple(model.backbone.out_indices) == (
        (2, 5, 8, 11) if 'deit' in name else (4, 8, 12, 16)
    )
    assert not any(key.startswith(('backbone.norm', 'backbone.ln')) for key in model.state_dict())
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    of = {id(p): group for group in optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or key.endswith(('bias', 'pos_embed', 'cls_token'))
        assert of[id(parameter)]['weight_decay'] == (0 if spared else decay), key
        assert of[id(parameter)]['lr'] == lr


def test_the_pipelines_are_mmsegs_for_ade20k():
    import mmseg
    from mmseg.datasets import ADE20KDataset

    cfg = prepare(Config.fromfile(FOLDER / TINY))
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, lazy_init=True))
    assert isinstance(dataset, ADE20KDataset) and dataset.reduce_zero_label
    bases = Path(mmseg.__file__).parent / '.mim/configs/_base_'
    theirs = Config.fromfile(bases / 'datasets/ade20k.py')
    for split in ('train', 'test'):
        ours, expected = (deepcopy(c[f'{split}_pipeline']) for c in (cfg, theirs))
        for step in expected:
            step.pop('reduce_zero_label', None)  # set in the dataset
        assert ours == expected
    (ours, flips, *_), (factors, *_) = (c.tta_pipeline[1].transforms for c in (cfg, theirs))
    ratios = [resize.scale_factor for resize in factors]
    assert [resize.scale for resize in ours] == [(2048 * r, 512 * r) for r in ratios]
    assert [flip.prob for flip in flips] == [0, 1]
    theirs = Config.fromfile(bases / 'models/upernet_swin.py')
    for key in ('mean', 'std', 'bgr_to_rgb', 'pad_val', 'seg_pad_val'):
        assert cfg.model.data_preprocessor[key] == theirs.data_preprocessor[key]


def test_the_learning_rate_warms_up_and_decays_linearly_to_zero():
    name = 'upernet_weightformer-tiny-p16_4xb8-60k_ade20k-512x512.py'  # the shortest
    cfg = prepare(Config.fromfile(FOLDER / name))
    lr, end = cfg.optim_wrapper.optimizer.lr, cfg.train_cfg.max_iters
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    rates = []
    for _ in range(end):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6 * lr)
    assert rates[750] == pytest.approx(lr / 2, rel=2e-3)
    for i in (2000, end // 2, end - 100):
        assert rates[i] == pytest.approx(lr * (end - i) / (end - 1500), abs=1e-4 * lr), i
    assert rates[-1] == 0


def segmentor(load, name):
    """Builds a toy segmentor whose logits depend on the image."""
    cfg = load(name)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


def predict(model, image):
    """Returns the logits (classes, h, w) of an image (3, h, w)."""
    from mmseg.structures import SegDataSample

    shape = tuple(image.shape[1:])
    sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    (sample,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    return sample.seg_logits.data


@pytest.mark.parametrize('shape', [(64, 96), (50, 91), (33, 64), (1, 70), (7, 5)])
def test_a_whole_image_has_the_logits_of_the_image_padded_by_hand(load, shape):
    """No feature map is resized to fit, and none is too small for pooling."""
    model = segmentor(load, WHOLE)
    image = torch.randint(0, 256, (3, *shape)).float()
    logits = predict(model, image)
    assert logits.shape == (3, *shape)
    height, width = (-(-side // 32) * 32 for side in shape)
    mean = model.data_preprocessor.mean.flip(0)  # padding is 0 after normalisation; images are BGR
    padded = mean.expand(3, height, width).clone()
    padded[:, : shape[0], : shape[1]] = image
    exact = predict(model, padded)
    assert exact.shape == (3, height, width)
    torch.testing.assert_close(logits, exact[:, : shape[0], : shape[1]], rtol=1e-4, atol=1e-4)
    assert logits.std() > 1e-2


@pytest.mark.parametrize('shape', [(64, 64), (64, 100), (1, 150), (130, 70), (9, 20)])
def test_sliding_windows_have_the_full_size_and_cover_any_image(load, shape):
    model = segmentor(load, TINY)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2:]))
    logits = predict(model, torch.randint(0, 256, (3, *shape)).float())
    assert logits.shape == (3, *shape) and torch.isfinite(logits).all()
    assert set(seen) == {(IMAGE_SIZE, IMAGE_SIZE)}
    height, width = (max(side, IMAGE_SIZE) for side in shape)
    columns, rows = (-(-max(side - IMAGE_SIZE, 0) // 43) + 1 for side in (width, height))
    assert len(seen) == columns * rows


def test_a_window_of_the_size_of_the_image_is_the_whole_image(load):
    image = torch.randint(0, 256, (3, IMAGE_SIZE, IMAGE_SIZE)).float()
    slide, whole = segmentor(load, TINY), segmentor(load, WHOLE)
    whole.load_state_dict(slide.state_dict())
    torch.testing.assert_close(predict(slide, image), predict(whole, image))


def test_augmented_views_are_averaged_pixel_by_pixel(load, ade20k):
    """With a model whose logits are the colours."""
    cfg = load(TINY)
    model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    seen = []

    def colors(inputs, metas):
        seen.append((metas[0]['flip'], *metas[0]['img_shape']))
        return inputs

    model.module.inference = colors
    image = np.zeros((48, 80, 3), np.uint8)
    image[:, :20], image[:, 20:50], image[:, 50:] = np.eye(3) * 255  # blue, green, red
    cv2.imwrite(str(ade20k / 'stripes.png'), image)
    labels = str(ade20k / 'annotations/training/0.png')
    info = dict(img_path=str(ade20k / 'stripes.png'), seg_map_path=labels)
    data = Compose(cfg.tta_pipeline)(
        dict(info, reduce_zero_label=True, seg_fields=[], label_map=None)
    )
    (sample,) = model.test_step(pseudo_collate([data]))
    predicted = sample.pred_sem_seg.data
    assert predicted.shape[-2:] == (48, 80)
    expected = torch.tensor([2] * 20 + [1] * 30 + [0] * 30)  # as RGB
    wrong = (predicted.reshape(48, 80) != expected).sum(0).nonzero().flatten().tolist()
    assert set(wrong) <= {18, 19, 20, 21, 48, 49, 50, 51}  # blurred by resizing
    assert [flip for flip, *_ in seen].count(True) == 6 == len(seen) / 2
    assert len({view[1:] for view in seen}) == 6


@pytest.fixture
def deit(load, tmp_path):
    """The toy config of DeiT with the shipped init_cfg, and the classifier it starts from."""
    cfg = load(DEIT)
    classifier = MODELS.build(
        dict(cfg.model.backbone, img_size=32, final_norm=True, out_indices=-1)
    )
    torch.nn.init.normal_(classifier.pos_embed)
    init_cfg = dict(Config.fromfile(FOLDER / DEIT).model.backbone.init_cfg)
    cfg.model.backbone.init_cfg = dict(init_cfg, checkpoint=str(tmp_path / 'deit.pth'))
    save_classifier(classifier, tmp_path / 'deit.pth')
    return cfg, classifier


def save_classifier(backbone, path):
    state_dict = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save({'state_dict': {**state_dict, 'head.fc.bias': torch.zeros(3)}}, path)


def test_deit_starts_from_a_classifier_with_its_position_embedding_interpolated(deit):
    cfg, classifier = deit
    model = MODELS.build(cfg.model)
    start_training(model)
    ours, theirs = model.backbone.state_dict(), classifier.state_dict()
    shared = [k for k in ours if k != 'pos_embed']
    assert all(torch.equal(ours[k], theirs[k]) for k in shared)
    grid = theirs['pos_embed'][:, 1:].reshape(1, 2, 2, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(4, 4), mode='bicubic', align_corners=False)
    torch.testing.assert_close(ours['pos_embed'][:, 1:], grid.flatten(2).transpose(1, 2))


def test_the_weights_of_another_deit_are_refused(deit, tmp_path):
    cfg, _ = deit
    cfg.model.backbone.arch.update(embed_dims=2 * WIDTH)
    larger = MODELS.build(dict(cfg.model.backbone, init_cfg=None, final_norm=True))
    cfg.model.backbone.arch.update(embed_dims=WIDTH)
    save_classifier(larger, tmp_path / 'deit.pth')
    with pytest.raises(UserError, match=r'deit\.pth does not fit this VisionTransformer.*mismatch'):
        start_training(MODELS.build(cfg.model))


def test_weights_without_the_prefix_of_the_config_are_refused(deit, tmp_path):
    cfg, classifier = deit
    torch.save({'state_dict': classifier.state_dict()}, tmp_path / 'deit.pth')
    with pytest.raises(UserError, match=r"init_cfg\.prefix='backbone\.'\): 0 of"):
        start_training(MODELS.build(cfg.model))


@pytest.mark.parametrize(
    ('name', 'file', 'how'),
    [
        (TINY, 'weightformer-tiny_in1k.pth', 'mmwf official-to-mmwf hf://RuizeHe/weightformer-t'),
        (DEIT, 'deit-tiny_in1k.pth', "Copy a checkpoint of mmpretrain's DeiT classifier"),
    ],
)
def test_without_the_pretrained_weights_training_stops_and_says_what_to_do(
    ade20k, name, file, how, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(FOLDER / name)
    init_cfg = deepcopy(cfg.model.backbone.init_cfg)
    shrink_segmentation(cfg, ade20k).model.backbone.init_cfg = init_cfg
    cfg.dump('toy.py')
    with pytest.raises(UserError, match=f'no checkpoint checkpoints/{file}') as error:
        train_tool.main(['toy.py', '--work-dir', 'out'])
    assert how in str(error.value)
    assert str(error.value).endswith('add --cfg-options model.backbone.init_cfg=None.')
    assert not Path('out').exists()


def test_the_example_needs_only_data_in_its_folder(tmp_path, monkeypatch):
    name = 'example_own-dataset.py'
    cfg = Config.fromfile(FOLDER / name)
    monkeypatch.chdir(tmp_path)
    loaders = ('train_dataloader', 'val_dataloader')
    with pytest.raises(UserError, match=r'train_dataloader expects data/own') as error:
        check_datasets(cfg, loaders)
    assert 'ADE' not in str(error.value)
    write_ade20k(tmp_path / 'data/own')
    reports = check_datasets(cfg, loaders)
    assert all(f'%  {name}\n' in f'{reports[0]}\n' for name in cfg.classes)
    code = (FOLDER / name).read_text().split('"""')[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith('#')]
    assert len(lines) < 25


@pytest.fixture(scope='module')
def config(ade20k, tmp_path_factory):
    """The file of the tiny config at toy size, pretrained, without randomness in training."""
    folder = tmp_path_factory.mktemp('configs')
    cfg = shrink_segmentation(Config.fromfile(FOLDER / TINY), ade20k)
    save_classifier(WeightFormer(arch=cfg.model.backbone.arch), folder / 'weights.pth')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(folder / 'weights.pth'))
    cfg.model.backbone.drop_path_rate = 0.0
    cfg.model.decode_head.dropout_ratio = cfg.model.auxiliary_head.dropout_ratio = 0.0
    resize = dict(type='Resize', scale=(IMAGE_SIZE, IMAGE_SIZE))
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [*pipeline[:2], resize, pipeline[-1]]
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.param_scheduler = [dict(type='PolyLR', eta_min=1e-4, end=4, by_epoch=False)]
    cfg.train_cfg.update(max_iters=4, val_interval=2)
    path = folder / 'toy.py'
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    return work_dir, run_tool('train.py', config, '--work-dir', work_dir)


def test_training_writes_checkpoints_and_a_log_without_warnings(trained):
    work_dir, log = trained
    assert {path.name for path in work_dir.glob('*.pth')} >= {'iter_2.pth', 'iter_4.pth'}
    assert 'mIoU' in log
    assert re.search(r'weights\.pth: (\d+) of \1 keys matched', log)
    for noise in ('Warning', 'WARNING', 'OneDL', 'avg_non_ignore'):
        assert noise not in log, noise


def test_training_from_random_weights_is_logged_in_capitals(config, tmp_path):
    options = ('model.backbone.init_cfg=None', 'train_cfg.max_iters=1')
    log = run_tool(
        'train.py', config, '--work-dir', tmp_path, '--no-validate', '--cfg-options', *options
    )
    assert 'WARNING - THE BACKBONE STARTS FROM RANDOM WEIGHTS' in log
    assert (tmp_path / 'iter_1.pth').exists()


def test_testing_writes_the_metrics_of_each_class_predictions_and_images(config, trained, tmp_path):
    work_dir, log = trained
    files = tmp_path / 'metrics.json', tmp_path / 'predictions.pkl'
    run_tool(
        'test.py', config, work_dir / 'iter_4.pth', '--work-dir', tmp_path, '--out', *files,
        '--show-dir', tmp_path / 'pictures',
    )  # fmt: skip
    metrics, predictions = json.loads(files[0].read_text()), mmengine.load(files[1])
    truth = np.concatenate([p['gt_sem_seg']['data'].flatten() for p in predictions])
    predicted = np.concatenate([p['pred_sem_seg']['data'].flatten() for p in predictions])
    truth, predicted = truth[truth != 255], predicted[truth != 255]
    ious, recalls = [], []
    for label, name in enumerate(SEGMENTATION_CLASSES):
        hit = ((truth == label) & (predicted == label)).sum()
        union = ((truth == label) | (predicted == label)).sum()
        if union:
            ious.append(100 * hit / union)
        if (truth == label).any():
            recalls.append(100 * hit / (truth == label).sum())
        assert metrics.get(f'IoU.{name}') == (pytest.approx(ious[-1], abs=6e-3) if union else None)
    assert metrics['mIoU'] == pytest.approx(np.mean(ious), abs=0.006)
    assert metrics['mAcc'] == pytest.approx(np.mean(recalls), abs=0.006)
    assert metrics['aAcc'] == pytest.approx(100 * (truth == predicted).mean(), abs=0.006)
    assert f'mIoU: {metrics["mIoU"]:.4f}' in log
    protocol = metrics['protocol']
    assert protocol['test_cfg']['mode'] == 'slide' and protocol['tta'] is False
    assert protocol['num_images'] == 4 and protocol['command'].startswith('mmwf test ')
    checkpoint = (work_dir / 'iter_4.pth').read_bytes()
    assert protocol['checkpoint_sha256'] == hashlib.sha256(checkpoint).hexdigest()
    assert len(predictions) == 4 and 'seg_logits' not in predictions[0]
    assert len(list((tmp_path / 'pictures').iterdir())) == 4


def test_test_time_augmentation_runs_on_images_of_any_shape(config, trained, tmp_path):
    out = tmp_path / 'predictions.pkl'
    checkpoint = trained[0] / 'iter_4.pth'
    run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--out', out, '--tta')
    shapes = [tuple(p['pred_sem_seg']['data'].shape[1:]) for p in mmengine.load(out)]
    assert shapes == [(40 + 8 * i, 70 - 4 * i) for i in range(4)]


def test_a_resumed_run_ends_with_the_same_weights(config, trained, tmp_path):
    checkpoint = trained[0] / 'iter_2.pth'
    log = run_tool('train.py', config, '--work-dir', tmp_path, '--resume', checkpoint)
    assert 'resumed epoch: 0, iter: 2' in log
    whole, resumed = (weights(folder / 'iter_4.pth') for folder in (trained[0], tmp_path))
    assert difference(resumed, whole) == 0
    assert difference(weights(checkpoint), whole) > 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_two_processes_train_without_a_gpu_despite_sync_bn(config, tmp_path):
    assert 'SyncBN' in config.read_text()
    log = run('bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path)
    assert 'SyncBN does not run without a GPU' in log
    assert 'loss: nan' not in log
    results = []
    for command in (
        [sys.executable, 'tools/test.py', config, tmp_path / 'iter_4.pth'],
        ['bash', 'tools/dist_test.sh', config, tmp_path / 'iter_4.pth', 2],
    ):
        out = tmp_path / f'{len(results)}.json'
        log = run(*command, '--work-dir', tmp_path, '--out', out, '--show-dir', out.with_suffix(''))
        results.append(read_metrics(out))
    assert results[0] == results[1]
    assert [len(list((tmp_path / folder).iterdir())) for folder in '01'] == [4, 4]


def test_sync_bn_is_replaced_everywhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = Config.fromfile(FOLDER / TINY)
    before = deepcopy(cfg.model)
    set_up_processes(cfg, 'none')
    assert 'SyncBN' in str(before) and 'SyncBN' not in str(cfg.model)
    assert cfg.model.neck.norm_cfg.type == 'BN'
