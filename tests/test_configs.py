"""Every config is tested by existing: found by glob, built, and trained for a step.

The classifiers are trained here, at full size; ``test_detection.py``, ``test_segmentation.py`` and
``test_image_generation.py`` train the others, made small.
"""

import ast
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from sklearn.datasets import load_sample_images

from mmwf.apis.environment import import_task_library
from mmwf.models import WeightFormer

ROOT = Path(__file__).parents[1]
LEAVES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
#: The test file that trains the configs of each default scope.
TRAINED_IN = {
    'mmpretrain': 'test_configs.py',
    'mmdet': 'test_detection.py',
    'mmseg': 'test_segmentation.py',
    'mmengine': 'test_image_generation.py',
}
CLASSIFIERS = [
    path for path in LEAVES if Config.fromfile(ROOT / path).default_scope == 'mmpretrain'
]
PREDICTORS = [path for path in LEAVES if path.startswith('configs/predictors/')]
CLASSIFICATION = [path for path in LEAVES if path.startswith('configs/classification/')]


@pytest.fixture(autouse=True)
def in_project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Two real photographs on disk, 427 x 640."""
    import cv2

    folder = tmp_path_factory.mktemp('photographs')
    paths = []
    for i, image in enumerate(load_sample_images().images):
        paths.append(str(folder / f'{i}.png'))
        cv2.imwrite(paths[-1], image[..., ::-1])
    return paths


def load(path):
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    return cfg


def classification_batch(cfg, photographs, split):
    pipeline = Compose(cfg[f'{split}_dataloader'].dataset.pipeline)
    samples = [
        pipeline(dict(img_path=path, gt_label=label)) for label, path in enumerate(photographs)
    ]
    return pseudo_collate(samples)


@pytest.mark.parametrize('path', LEAVES)
def test_some_test_file_trains_it(path):
    assert (ROOT / 'tests' / TRAINED_IN[Config.fromfile(path).default_scope]).exists()


@pytest.mark.parametrize('path', LEAVES)
def test_validation_is_logged_by_epoch_where_training_counts_epochs(path):
    cfg = Config.fromfile(path)
    by_epoch = cfg.train_cfg.get('by_epoch', False)
    assert cfg.default_hooks.logger.get('log_metric_by_epoch', True) == by_epoch


@pytest.mark.parametrize('path', CLASSIFIERS)
def test_it_builds_and_training_changes_every_layer(path, photographs):
    cfg = load(path)
    data_preprocessor = cfg.get('data_preprocessor', cfg.model.get('data_preprocessor'))
    model = MODELS.build(dict(data_preprocessor=data_preprocessor, **cfg.model))
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # a head that starts at zero passes no gradient in the first step
        batch = classification_batch(cfg, photographs, 'train')
        losses = model.train_step(batch, optim_wrapper)
        assert math.isfinite(losses['loss'].item())
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


@pytest.mark.parametrize('path', CLASSIFICATION)
def test_its_test_pipeline_gives_predictions_at_the_size_of_its_name(path, photographs):
    cfg = load(path)
    batch = classification_batch(cfg, photographs, 'test')
    size = 448 if '448px' in path else 224
    assert all(image.shape == (3, size, size) for image in batch['inputs'])


@pytest.mark.parametrize('path', CLASSIFICATION)
def test_its_class_counts_agree(path):
    cfg = load(path)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 1000


@pytest.mark.parametrize('path', LEAVES)
def test_it_opens_with_command_and_numbers_and_is_short(path):
    source = Path(path).read_text()
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring, 'expected a docstring'
    assert 'bash tools/' in docstring
    assert 'Ours:' in docstring
    assert 'Hardware:' in docstring
    if 'quickstart' not in path:  # those stand for a whole recipe
        code = source.split('"""', 2)[2]
        assert len([line for line in code.splitlines() if line.strip()]) <= 25


@pytest.mark.parametrize('path', LEAVES)
def test_its_name_follows_the_grammar(path):
    stem = Path(path).stem
    assert re.fullmatch(r'[a-z0-9-]+(_[a-z0-9-]+)+', stem), stem
    assert re.search(r'_\d+xb\d+', stem) or stem == 'example_own-dataset', stem


@pytest.mark.parametrize('path', CLASSIFICATION)
def test_its_batch_and_rate_are_those_of_the_paper(path):
    cfg = load(path)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)_', path).groups())
    assert cfg.train_dataloader.batch_size == batch
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.optim_wrapper.optimizer.lr == 4e-3
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert cfg.train_cfg.max_epochs == 300


@pytest.mark.parametrize('path', PREDICTORS)
def test_a_row_of_the_papers_tables_is_what_its_name_says(path):
    backbone = load(path).model.backbone
    backbone.pop('type')
    row = path.split('_')[1]
    if kind_and_name := re.fullmatch(r'(linear|dwconv)-(.+?)((-fc[12])*)', row):
        kind, name, layers, _ = kind_and_name.groups()
        assert backbone.pop(f'{kind}_predictor') == name
        default = 'fc1' if kind == 'linear' else 'dwconv'
        assert backbone.pop('dynamic_layers') == (layers[1:] or default).split('-')
    else:
        blocks = WeightFormer(dynamic_blocks=backbone.pop('dynamic_blocks')).dynamic_blocks
        assert row == (f'dynamic-blocks-{len(blocks)}' if blocks else 'static')
    assert backbone == dict(arch='tiny', out_type='avg_featmap')  # nothing else differs


def test_only_matrices_decay():
    cfg = load('configs/classification/weightformer-tiny-p16_8xb256_in1k.py')
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        expected = 0 if parameter.ndim == 1 or name.endswith('bias') else 0.05
        assert decay[id(parameter)] == expected, name


def test_the_rate_is_a_cosine_over_all_epochs_with_a_linear_warm_up():
    """The two chained schedulers against the closed form."""
    from mmengine.registry import PARAM_SCHEDULERS

    cfg = load('configs/classification/weightformer-tiny-p16_8xb256_in1k.py')
    epoch_length = 25
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=4e-3)
    schedulers = [
        PARAM_SCHEDULERS.get(s.type).build_iter_from_epoch(
            optimizer=optimizer,
            epoch_length=epoch_length,
            **{k: v for k, v in s.items() if k not in ('type', 'convert_to_iter_based')},
        )
        for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(300 * epoch_length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    for epoch in (20, 30, 100, 150, 250, 299):
        cosine = 4e-5 + (4e-3 - 4e-5) * (1 + math.cos(math.pi * epoch / 300)) / 2
        assert rates[epoch * epoch_length] == pytest.approx(cosine, rel=2e-3), epoch
    assert rates[0] == pytest.approx(4e-6)
    assert rates[10 * epoch_length] == pytest.approx(2e-3, rel=0.02)
    assert rates[-1] == pytest.approx(4e-5, rel=0.01)


def test_configs_build_in_a_fresh_interpreter_without_importing_mmwf(run_python):
    result = run_python(
        'from mmengine.config import Config\n'
        'from mmengine.registry import MODELS, init_default_scope\n'
        f'for path in {CLASSIFICATION!r}:\n'
        '    cfg = Config.fromfile(path)\n'
        '    init_default_scope(cfg.default_scope)\n'
        '    print(type(MODELS.build(cfg.model).backbone).__name__)\n'
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('WeightFormer') == 3
    assert result.stdout.count('VisionTransformer') == 2
