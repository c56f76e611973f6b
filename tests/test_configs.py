"""Every config below ``configs/`` is found by glob and tested.

Each one must keep resolving to the values in ``data/resolved_configs.json``. After an intended
change, update that file with ``python tests/test_configs.py`` and commit it with the change.

Classifiers, and the quick start's detector and segmentor, are trained here for two steps at full
size. The test files of the other tasks train their configs at toy size.
"""

import ast
import inspect
import json
import math
import re
from itertools import groupby
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from sklearn.datasets import load_sample_images
from toy import write_ade20k, write_coco

from mmwf.commands import COMMANDS
from mmwf.config_files import PUBLISHED
from mmwf.libraries import import_task_library
from mmwf.models import WeightFormer

ROOT = Path(__file__).parents[1]
LEAVES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
RECORD = ROOT / 'tests/data/resolved_configs.json'
#: Variables that config files use to compute others. They are in the resolved config too, but
#: nothing reads them there.
HELPERS = {
    'ade20k', 'attention', 'augmentation', 'backbone', 'bank', 'bgr_mean', 'bgr_std', 'box_head',
    'channels', 'classes', 'classifier_init', 'crop_size', 'data', 'data_root', 'dataset', 'decay',
    'heads', 'load_depth', 'max_iters', 'meta_keys', 'no_decay', 'norm_cfg', 'num_classes',
    'num_proposals', 'pipeline', 'position', 'pretrained', 'roi_extractor', 'scenes', 'strides',
    'train_dataset', 'tta_meta_keys', 'val_dataset', 'warmup', 'width',
}  # fmt: skip
#: Nearest neighbours are not trained.
TRAINED = [path for path in LEAVES if 'train_cfg' in Config.fromfile(ROOT / path)]
CLASSIFIERS = [
    path
    for path in LEAVES
    if Config.fromfile(ROOT / path).default_scope == 'mmpretrain'
    and not re.search('frozen_features|example', path)
]
TINY = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
UPERNET_TINY = 'configs/segmentation/upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512.py'
DEIT_TINY = TINY.replace('weightformer', 'deit')
#: The quick start's detector and segmentor.
SCENES = [path for path in LEAVES if 'scenes-64px' in path]
PREDICTORS = [path for path in LEAVES if path.startswith('configs/predictors/')]
#: Of ImageNet.
CLASSIFICATION = [p for p in LEAVES if re.match('configs/classification/(?!example)', p)]
DOWNSTREAM = [path for path in LEAVES if re.match('configs/(detection|segmentation|depth)/', path)]
#: Variants with the learning rate of the released code.
RELEASED_RATE = [path for path in CLASSIFICATION if '-lr2e-3' in path]


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


def train_two_steps(cfg, make_batch):
    """Returns the names of the parameters that stay as they are."""
    data_preprocessor = cfg.get('data_preprocessor', cfg.model.get('data_preprocessor'))
    model = MODELS.build(dict(cfg.model, data_preprocessor=data_preprocessor))
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # a head that starts at zero passes no gradient in the first step
        losses = model.train_step(make_batch(), optim_wrapper)
        assert math.isfinite(losses['loss'].item())
    return [name for name, p in model.named_parameters() if torch.equal(p, before[name])]


# Resolved values and inheritance ----------------------------------------------------------------


def flatten(value, path=''):
    """Maps key paths, such as ``model.backbone.arch``, to the ``repr`` of the values.

    Lists of dicts, such as pipelines, have the index in the path.
    """
    if isinstance(value, dict) and value:
        children = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (dict, list)) for v in value):
        children = enumerate(value)
    else:
        return {path: repr(value)}
    return {
        key: leaf
        for name, child in children
        for key, leaf in flatten(child, f'{path}.{name}' if path else str(name)).items()
    }


def resolve(path):
    cfg = Config.fromfile(ROOT / path).to_dict()
    return flatten({key: value for key, value in cfg.items() if key not in HELPERS})


def read_record():
    """Returns the recorded values of each config."""
    folders = json.loads(RECORD.read_text())
    return {
        f'{folder}/{name}': configs['all'] | values
        for folder, configs in folders.items()
        for name, values in configs.items()
        if name != 'all'
    }


def write_record():
    """Records the values of each config; values that all configs of a folder share only once."""
    folders = {}
    for folder, paths in groupby(LEAVES, lambda path: str(Path(path).parent)):
        configs = {Path(path).name: set(resolve(path).items()) for path in paths}
        shared = set.intersection(*configs.values())
        folders[folder] = {name: dict(values - shared) for name, values in configs.items()}
        folders[folder]['all'] = dict(shared)
    RECORD.write_text(json.dumps(folders, indent=1, sort_keys=True) + '\n')


def bases(path):
    """Lists the files that a config inherits from directly."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_':
            names = ast.literal_eval(node.value)
            names = [names] if isinstance(names, str) else names
            return [(path.parent / name).resolve() for name in names]
    return []


def count_levels(path):
    """Counts the files in the longest inheritance chain, the config itself included."""
    return 1 + max(map(count_levels, bases(path)), default=0)


@pytest.mark.parametrize('path', LEAVES)
def test_it_resolves_to_the_recorded_values(path):
    recorded, resolved = read_record().get(path, {}), resolve(path)
    differences = [
        f'  {key}: expected {recorded.get(key, "no such key")}, '
        f'got {resolved.get(key, "no such key")}'
        for key in sorted(recorded.keys() | resolved.keys())
        if recorded.get(key) != resolved.get(key)
    ]
    if differences:
        pytest.fail(
            f'{path} differs from {RECORD.relative_to(ROOT)}:\n'
            + '\n'.join(differences)
            + '\nIf this is intended, run: python tests/test_configs.py',
            pytrace=False,
        )


def test_the_record_has_every_config_and_no_other():
    assert set(read_record()) == set(LEAVES)


def test_nothing_reads_the_helper_variables():
    keys = {key for path in LEAVES for key in Config.fromfile(path)}
    assert keys >= HELPERS  # no stale names
    assert HELPERS.isdisjoint(inspect.signature(Runner).parameters)
    names = '|'.join(HELPERS)
    access = re.compile(rf"""\bcfg(\.|\[['"]|\.(get|pop)\(['"])({names})\b""")
    for source in (ROOT / 'mmwf').rglob('*.py'):
        assert not access.search(source.read_text()), source


@pytest.mark.parametrize('path', LEAVES)
def test_it_has_at_most_three_levels_and_inherits_from_bases_only(path):
    assert count_levels(ROOT / path) <= 3
    for base in bases(ROOT / path):
        assert ROOT / 'configs/_base_' in base.parents, base


def test_every_base_is_used():
    used, new = set(), {ROOT / path for path in LEAVES}
    while new:
        used |= new
        new = {base for path in new for base in bases(path)}
    assert used >= set((ROOT / 'configs/_base_').rglob('*.py'))


# Names, text and training -----------------------------------------------------------------------


def test_some_test_trains_every_config():
    """Here, or in a file that takes training steps with all configs that a glob of it finds."""
    trained = {ROOT / path for path in CLASSIFIERS + SCENES}
    trained.add(ROOT / 'configs/classification/example_own-dataset.py')  # in test_docs.py
    for file in (ROOT / 'tests').rglob('test_*.py'):
        source = file.read_text()
        if file != Path(__file__) and '.train_step(' in source:
            globs = re.findall(r"'(configs/\w+)'.*?\.glob\('(.+?)'\)", source, flags=re.DOTALL)
            trained.update(path for folder, glob in globs for path in (ROOT / folder).glob(glob))
    assert trained == {ROOT / path for path in TRAINED}


@pytest.mark.parametrize('path', TRAINED)
def test_validation_is_logged_by_epoch_where_training_counts_epochs(path):
    cfg = Config.fromfile(path)
    by_epoch = cfg.train_cfg.get('by_epoch', False)
    assert cfg.default_hooks.logger.get('log_metric_by_epoch', True) == by_epoch


@pytest.mark.parametrize('path', CLASSIFIERS)
def test_training_changes_every_layer_of_a_classifier(path, photographs):
    cfg = load(path)
    unchanged = train_two_steps(cfg, lambda: classification_batch(cfg, photographs, 'train'))
    assert not unchanged


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('path', SCENES)
def test_training_changes_every_layer_of_the_quick_starts_detector_and_segmentor(path, tmp_path):
    cfg = load(path)
    if cfg.default_scope == 'mmdet':
        write_coco(tmp_path, classes=('0', '1'))
    else:
        write_ade20k(tmp_path)
    cfg.model.backbone.init_cfg = None
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert not train_two_steps(cfg, lambda: pseudo_collate([dataset[0], dataset[1]]))


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
def test_its_batch_is_the_papers_and_its_rate_that_of_its_source(path):
    """The paper's rate is 4e-3; DeiT and the released code use 5e-4 * batch size / 512."""
    cfg = load(path)
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)[-_]', path).groups())
    assert cfg.train_dataloader.batch_size == batch
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 2048
    linear = 'deit' in path or path in RELEASED_RATE
    assert cfg.optim_wrapper.optimizer.lr == (5e-4 * 2048 / 512 if linear else 4e-3)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert cfg.train_cfg.max_epochs == 300


@pytest.mark.parametrize('path', RELEASED_RATE)
def test_the_variant_with_the_released_rate_differs_in_the_rate_only(path):
    ours, papers = resolve(path), resolve(path.replace('-lr2e-3', ''))
    assert ours.pop('optim_wrapper.optimizer.lr') == '0.002'
    assert papers.pop('optim_wrapper.optimizer.lr') == '0.004'
    assert ours == papers


def test_every_weightformer_has_a_variant_with_the_released_rate():
    papers = {path for path in CLASSIFICATION if 'weightformer' in path} - set(RELEASED_RATE)
    papers = {path for path in papers if not path.endswith('-shards.py')}
    assert papers == {path.replace('-lr2e-3', '') for path in RELEASED_RATE}
    assert len(papers) == 3


@pytest.mark.parametrize('path', [path for path in CLASSIFICATION if 'deit' in path])
def test_deit_has_its_own_drop_path_rate(path):
    backbone = MODELS.build(load(path).model).backbone
    assert backbone.layers[-1].attn.out_drop.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize('path', DOWNSTREAM)
def test_it_names_pretrained_weights_of_its_own_backbone(path):
    """Otherwise it would train from random weights, or the baseline alone would."""
    cfg = Config.fromfile(path)
    init_cfg = cfg.model.backbone.init_cfg
    family, size = re.search(
        '(weightformer|deit)-(tiny|small)', path + 'weightformer-tiny'
    ).groups()
    vitdet = '_vitdet' if family == 'deit' and 'detection' in path else ''
    assert init_cfg.type == 'Pretrained'
    assert init_cfg.checkpoint == f'checkpoints/{family}-{size}_in1k{vitdet}.pth'
    # Of mmpretrain's classifiers; deit_to_vitdet.py removes it, and WeightFormer finds it.
    prefix = 'backbone.' if family == 'deit' and not vitdet else None
    assert init_cfg.get('prefix') == prefix
    arch = cfg.model.backbone.arch
    if vitdet:
        assert arch.embed_dims == dict(tiny=192, small=384)[size]
    else:
        assert arch == (f'deit-{size}' if family == 'deit' else size)


@pytest.mark.parametrize('path', DOWNSTREAM + SCENES)
def test_the_help_for_missing_weights_names_commands_and_tools_that_exist(path):
    text = Config.fromfile(path).weights_help
    assert set(re.findall(r'^ +mmwf ([\w-]+)', text, flags=re.MULTILINE)) <= COMMANDS.keys()
    assert set(re.findall(r'hf://[\w/-]+', text)) <= set(PUBLISHED.values())
    assert all((ROOT / tool).is_file() for tool in re.findall(r'tools/[\w/]+\.\w+', text))
    assert text.endswith((' ', '\n'))  # another sentence follows


@pytest.mark.parametrize('path', LEAVES)
def test_processes_have_their_own_seeds_and_wait_for_the_checks_before_training(path):
    cfg = Config.fromfile(path)
    assert cfg.randomness.diff_rank_seed is True
    assert cfg.randomness.seed is not None
    assert cfg.env_cfg.dist_cfg.timeout >= 3600  # seconds


@pytest.mark.parametrize('path', TRAINED)
def test_the_schedule_scales_with_the_learning_rate(path):
    for scheduler in Config.fromfile(path).param_scheduler:
        assert not scheduler.get('eta_min'), scheduler
        if scheduler.type == 'CosineAnnealingLR':
            assert scheduler.eta_min_ratio == (0.0 if 'linear-probe' in path else 0.01)
        assert scheduler.type in ('CosineAnnealingLR', 'LinearLR', 'MultiStepLR', 'PolyLR')


@pytest.mark.parametrize('path', LEAVES)
def test_cudnn_benchmarks_unless_sizes_vary(path):
    cfg = Config.fromfile(path)
    whole_images = path in DOWNSTREAM and cfg.model.test_cfg.get('mode') == 'whole'
    boxes = cfg.default_scope == 'mmdet'  # their number is the batch size of the RoI heads
    assert cfg.env_cfg.cudnn_benchmark is not (whole_images or boxes)


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
    cfg = load(TINY)
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        expected = 0 if parameter.ndim == 1 or name.endswith('bias') else 0.05
        assert decay[id(parameter)] == expected, name


@pytest.mark.parametrize('path', [TINY, DEIT_TINY, UPERNET_TINY])
def test_the_optimizer_has_two_groups_with_the_settings_of_mmengines_many(path):
    """One with weight decay and one without; MMEngine makes a group for each parameter."""
    cfg = load(path)
    model = MODELS.build(cfg.model)
    ours = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    default = dict(cfg.optim_wrapper, constructor='DefaultOptimWrapperConstructor')
    theirs = build_optim_wrapper(model, default).optimizer
    assert len(ours.param_groups) == 2
    assert len(theirs.param_groups) == len(list(model.parameters())) > 100
    settings = [
        {
            id(parameter): {
                key: value for key, value in group.items() if key not in ('params', 'name')
            }
            for group in optimizer.param_groups
            for parameter in group['params']
        }
        for optimizer in (ours, theirs)
    ]
    assert settings[0].keys() == {id(parameter) for parameter in model.parameters()}
    for parameter, expected in settings[1].items():
        for key in ('lr', 'weight_decay', 'betas', 'eps'):
            assert settings[0][parameter][key] == expected[key]


@pytest.mark.parametrize('scale', [1, 2, 1 / 32])
def test_the_rate_is_a_cosine_over_all_epochs_with_a_linear_warm_up(scale):
    """The two chained schedulers against the closed form, at a rate as --auto-scale-lr sets it."""
    cfg = load(TINY)
    epoch_length = 25
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=4e-3 * scale)
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
        rates.append(optimizer.param_groups[0]['lr'] / scale)
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
    assert result.stdout.count('WeightFormer') == 7
    assert result.stdout.count('VisionTransformer') == 2


if __name__ == '__main__':
    write_record()
