"""Linear probe and nearest neighbours on frozen features: recipes, and runs on digits."""

import sys
from pathlib import Path

import mmengine
import mmpretrain
import numpy as np
import pytest
import torch
from helpers import run, run_tool, weights
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from sklearn.neighbors import KNeighborsClassifier

from mmwf.commands import test as test_tool
from mmwf.commands import train as train_tool
from mmwf.datasets.toy.digits import write_digits
from mmwf.engine.run import set_up_run
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs/frozen_features'
PROBES = sorted(FOLDER.glob('linear-probe*.py'))
(PROBE,), (KNN,) = PROBES, FOLDER.glob('knn*.py')
ARCH = dict(embed_dims=16, depth=3, mlp_ratio=2)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits')
    write_digits(root)
    return root


def shrink(path, root):
    """Shrinks a config to 16 channels and images of 32 x 32, and applies it to digits."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.update(arch=ARCH, patch_size=4, init_cfg=None)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 10
    for name in ('train', 'val', 'test', 'bank'):
        loader = cfg.get(f'{name}_dataloader')
        if not loader:
            continue
        loader.update(batch_size=16, num_workers=0, persistent_workers=False, pin_memory=False)
        split = loader.dataset.pop('split')
        loader.dataset.update(type='CustomDataset', data_root=str(root), data_prefix=split)
        # Every 11th image, so that all classes occur and two processes do not share them evenly.
        loader.dataset.indices = list(range(0, 1437 if split == 'train' else 360, 11))
        for step in loader.dataset.pipeline:
            if step['type'] in ('mmwf.RandomResizedCrop', 'Resize'):
                step['scale'] = 32
            if step['type'] == 'CenterCrop':
                step['crop_size'] = 32
    if 'in_channels' in cfg.model.head:
        cfg.model.backbone.frozen_stages = ARCH['depth']
        cfg.model.head.in_channels = ARCH['embed_dims']
        cfg.train_cfg.max_epochs = 1
    return cfg


def build(cfg):
    import_task_library(cfg)
    init_default_scope('mmpretrain')
    return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


@pytest.mark.parametrize('path', PROBES)
def test_a_step_of_the_linear_probe_changes_the_head_and_nothing_of_the_backbone(path, digits):
    cfg = shrink(path, digits)
    model = build(cfg)
    model.init_weights()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = []
    model.backbone.register_forward_hook(
        lambda *_: modes.extend(module.training for module in model.backbone.blocks)
    )
    for _ in range(2):
        model.train()
        losses = model.train_step(pseudo_collate([dataset[0], dataset[100]]), optim_wrapper)
        assert 0 < losses['loss'] < torch.inf
    changed = [key for key, value in model.state_dict().items() if not value.equal(before[key])]
    assert changed == ['head.fc.weight', 'head.fc.bias']
    assert modes == [False] * 2 * ARCH['depth'] and model.head.training
    assert all(parameter.grad is None for parameter in model.backbone.parameters())


def test_all_blocks_and_the_norm_of_the_shipped_backbone_are_frozen():
    model = build(Config.fromfile(PROBE)).train()
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert all(parameter.requires_grad for parameter in model.head.parameters())
    frozen = [module for module in model.backbone.modules() if list(module.parameters(False))]
    assert frozen and not any(module.training for module in frozen)


def test_the_recipe_of_the_linear_probe_is_mocos():
    cfg, name = Config.fromfile(PROBE), 'vit-small-p16_8xb128-linear-coslr-90e_in1k.py'
    folder = Path(mmpretrain.__file__).parent / '.mim/configs/mocov3/benchmarks'
    theirs = Config.fromfile(folder / name)
    assert name in PROBE.read_text()
    assert cfg.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert cfg.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert cfg.auto_scale_lr.base_batch_size == 8 * theirs.train_dataloader.batch_size
    assert cfg.train_cfg.max_epochs == theirs.train_cfg.max_epochs
    (ours,), (expected,) = cfg.param_scheduler, theirs.param_scheduler
    assert (ours.type, ours.T_max, ours.end) == (expected.type, expected.T_max, expected.end)
    assert cfg.model.head.loss.type == theirs.model.head.loss.type
    assert cfg.model.head.init_cfg == theirs.model.head.init_cfg
    steps, expected = (
        [step.type for step in c.train_dataloader.dataset.pipeline] for c in (cfg, theirs)
    )
    # The first one loads the image.
    assert [step.removeprefix('mmwf.') for step in steps[1:]] == expected[1:]
    assert 'augments' not in cfg.model.train_cfg


@pytest.fixture(scope='module')
def probe(digits, tmp_path_factory):
    """The work dir of a linear probe that was trained for one epoch."""
    folder = tmp_path_factory.mktemp('probe')
    shrink(PROBE, digits).dump(folder / 'toy.py')
    train_tool.main([str(folder / 'toy.py'), '--work-dir', str(folder)])
    return folder


def test_a_trained_probe_tests_as_in_training(probe):
    metrics = test_tool.main(
        [str(probe / 'toy.py'), str(probe / 'epoch_1.pth'), '--work-dir', str(probe)]
    )
    log = next(probe.glob('*/*.log')).read_text()
    assert f'accuracy/top1: {metrics["accuracy/top1"]:.4f}' in log
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}


@pytest.fixture
def knn(digits, tmp_path):
    """The toy config of the nearest neighbours."""
    path = tmp_path / 'toy.py'
    shrink(KNN, digits).dump(path)
    return path


def features(cfg, checkpoint, loader):
    """Computes features and labels one image at a time."""
    model = build(cfg).eval()
    state_dict = {k: v for k, v in weights(checkpoint).items() if not k.startswith('head.')}
    model.load_state_dict(state_dict)
    samples = [pseudo_collate([sample]) for sample in DATASETS.build(cfg[loader].dataset)]
    with torch.no_grad():
        batches = [model.data_preprocessor(sample) for sample in samples]
        rows = [model.backbone(batch['inputs'])[-1][0].double().numpy() for batch in batches]
    return np.stack(rows), np.array([b['data_samples'][0].gt_label.item() for b in batches])


def test_it_computes_the_accuracy_of_scikit_learns_neighbours_in_one_process_and_two(
    knn, probe, tmp_path
):
    checkpoint = probe / 'epoch_1.pth'  # has a head, which is not used
    cfg = Config.fromfile(knn)
    stored, labels = features(cfg, checkpoint, 'bank_dataloader')
    queries, truth = features(cfg, checkpoint, 'test_dataloader')
    assert len(stored) % 2 and len(queries) % 2
    reference = KNeighborsClassifier(
        20, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(stored, labels)
    expected = reference.predict_proba(queries)

    for name, command in (
        ('one', [sys.executable, 'tools/test.py', knn, checkpoint]),
        ('two', ['bash', 'tools/dist_test.sh', knn, checkpoint, 2]),
    ):
        out = tmp_path / f'{name}.pkl', tmp_path / f'{name}.json'
        run(*command, '--work-dir', tmp_path, '--out', *out)
        predictions, metrics = mmengine.load(out[0]), mmengine.load(out[1])
        scores = np.stack([prediction['pred_score'].numpy() for prediction in predictions])
        assert [prediction['gt_label'].item() for prediction in predictions] == truth.tolist()
        np.testing.assert_allclose(scores, expected, atol=1e-4)
        top1 = 100 * (expected.argmax(1) == truth).mean()
        assert metrics['accuracy/top1'] == pytest.approx(top1)
        assert top1 > 30  # chance is 10


def test_a_subset_is_chosen_by_the_indices_of_the_dataset(knn, probe, tmp_path):
    log = run_tool(
        'test.py', knn, probe / 'epoch_1.pth', '--work-dir', tmp_path,
        '--cfg-options', 'bank_dataloader.dataset.indices=40', 'test_dataloader.dataset.indices=9',
    )  # fmt: skip
    assert 'Computing the features of 40 images' in log
    assert 'accuracy/top1' in log


def test_missing_training_images_are_an_error_before_testing(knn, probe, tmp_path):
    with pytest.raises(UserError, match=r'bank_dataloader expects \S+/elsewhere.*\nPut the data'):
        test_tool.main(
            [str(knn), str(probe / 'epoch_1.pth'), '--work-dir', str(tmp_path),
             '--cfg-options', 'bank_dataloader.dataset.data_prefix=elsewhere']
        )  # fmt: skip


def test_nothing_can_be_trained(knn, tmp_path):
    with pytest.raises(UserError, match='no train_dataloader: there is nothing to train'):
        train_tool.main([str(knn), '--work-dir', str(tmp_path)])


def test_a_checkpoint_of_another_backbone_is_refused(knn, probe, tmp_path):
    state_dict = weights(probe / 'epoch_1.pth')
    del state_dict['backbone.norm.weight']
    torch.save({'state_dict': state_dict}, tmp_path / 'a.pth')
    cfg = Config.fromfile(knn)
    cfg.load_from, cfg.work_dir = str(tmp_path / 'a.pth'), str(tmp_path)
    with pytest.raises(UserError, match=r'missing: backbone\.norm\.weight'):
        set_up_run(cfg).test()
