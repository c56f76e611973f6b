"""The documents: links, examples and tables."""

import re
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from sklearn.datasets import load_sample_images
from torch.utils.flop_counter import FlopCounterMode

import mmwf
from mmwf import ops
from mmwf.analysis.flops import count_multiply_adds
from mmwf.checkpoints.released_keys import mmwf_to_released
from mmwf.config_files import PUBLISHED
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
PREDICTORS = ROOT / 'configs/predictors'
GENERATION = ROOT / 'configs/generation'
DOCUMENTS = sorted(p for p in ROOT.rglob('*.md') if '/.venv' not in str(p))


def code_blocks(path, language):
    return re.findall(rf'```{language}\n(.*?)```', Path(path).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r'\]\((?!https?://|#)([^)#]+)', path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_tests_that_stand_for_promises_exist():
    text = (ROOT / 'docs/reliability.md').read_text()
    tests = {}
    for path in (ROOT / 'tests').rglob('test_*.py'):
        tests[path.name] = tests.get(path.name, '') + path.read_text()
    promised = re.findall(r'(test_\w+\.py)(?:::(test_\w+))?|`::(test_\w+)', text)
    assert len(promised) > 30
    last = None
    for name, test, further in promised:
        last = name or last
        assert last in tests
        assert f'def {test or further}' in tests[last] or not (test or further)


@pytest.mark.parametrize(
    ('column', 'constraints'), [(2, 'constraints.txt'), (3, 'constraints-upstream.txt')]
)
def test_the_versions_in_the_readme_are_the_pinned_ones(column, constraints):
    rows = re.findall(r'^\| (?:tested|with) .*$', (ROOT / 'README.md').read_text(), re.MULTILINE)
    stated = {
        '=='.join(entry.lower().split())
        for row in rows
        for entry in row.split('|')[column].split(',')
    }
    assert len(stated) == 7
    assert stated <= set((ROOT / 'requirements' / constraints).read_text().splitlines())


def test_commands_of_the_readme_scale_the_learning_rate_with_the_batch_size():
    block = next(b for b in code_blocks(ROOT / 'README.md', 'bash') if 'slurm_train' in b)
    commands = re.findall('^.*train.*$', block.replace('\\\n', ''), flags=re.MULTILINE)
    (first,) = (command for command in commands if '--auto-scale-lr' not in command)
    assert first.startswith('bash tools/dist_train.sh $config 8 ')  # 8 x 256, as the config expects
    assert len(commands) == 5


@pytest.fixture
def released_tiny(publish):
    """WeightFormer-T with random weights in place of the released ones."""
    model = mmwf.get_model('weightformer-tiny-p16_8xb256_in1k', device='cpu')
    torch.nn.init.normal_(model.head.fc.weight)
    publish('RuizeHe/weightformer-t', mmwf_to_released(model.state_dict()))
    return model


def test_the_python_examples_of_the_readme_load_the_released_weights(released_tiny, capsys):
    blocks = code_blocks(ROOT / 'README.md', 'python')
    names, models = {}, []
    for block in blocks[: 1 + next(i for i, b in enumerate(blocks) if '224, 320' in b)]:
        exec(block, names)
        models.append(names.get('model'))
    mmpretrains, ten_classes, timms = models[:3]
    printed = capsys.readouterr().out
    assert 'weightformer-tiny-p16_8xb256_in1k' in printed and 'upernet' not in printed
    pixels = names['images'].flip(1) - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    inputs = pixels / torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    with torch.no_grad():
        expected = released_tiny(inputs).softmax(dim=1)
    torch.testing.assert_close(names['scores'].cpu(), expected)
    weights = released_tiny.backbone.state_dict()
    for module in (mmpretrains.backbone, ten_classes.backbone, timms):
        state_dict = module.state_dict()
        assert all(torch.equal(state_dict[key].cpu(), value) for key, value in weights.items())
    assert ten_classes.head.fc.out_features == timms.head.out_features == 10
    assert ten_classes.backbone.blocks[-1].drop_path.drop_prob == pytest.approx(0.1)
    assert len(names['maps'].feature_info.channels()) == 4
    assert names['features'].shape == (1, 192, 14, 20)


def test_the_configs_of_the_readme_build(tmp_path):
    inherited, named = (b for b in code_blocks(ROOT / 'README.md', 'python') if 'model = dict' in b)
    (tmp_path / 'mine.py').write_text(inherited)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    backbone = MODELS.build(cfg.model.backbone)
    assert backbone.blocks[-1].drop_path.drop_prob == pytest.approx(0.1)
    cfg = Config.fromstring(named, '.py')
    backbone = MODELS.build(cfg.model.backbone)
    assert (backbone.embed_dims, backbone.out_indices) == (384, (4, 8, 12, 16))
    address = PUBLISHED['weightformer-small-p16_8xb256_in1k']
    assert backbone.init_cfg['checkpoint'] == address


def test_the_commands_of_the_readme_name_the_published_weights():
    text = (ROOT / 'README.md').read_text()
    tested = dict(re.findall(r'mmwf test ([\w-]+) (hf://\S+)', text))
    assert tested and tested.items() <= PUBLISHED.items()
    assert set(re.findall(r'mmwf\s+train\s+([a-z][\w-]+-[\w-]+)', text)) <= set(mmwf.list_models())
    assert set(re.findall(r'hf://RuizeHe/[\w-]+', text)) <= set(PUBLISHED.values())


@pytest.fixture
def two_flowers(tmp_path):
    """A custom dataset: crops from two photographs, one class each."""
    for split in ('train', 'val'):
        for name, image in zip(('china', 'flower'), load_sample_images().images, strict=True):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                crop = image[i * 20 : i * 20 + 300, i * 40 : i * 40 + 400, ::-1]
                cv2.imwrite(str(folder / f'{i}.jpg'), crop)
    return tmp_path


def test_the_example_for_own_images_trains(two_flowers, monkeypatch):
    text = (ROOT / 'configs/classification/example_own-dataset.py').read_text()
    changes = {
        "'../_base_": f"'{ROOT}/configs/_base_",
        'data/own': str(two_flowers / 'data'),
        'batch_size=64': 'batch_size=4',
        'max_epochs=30': 'max_epochs=1',
        "arch='tiny', init_cfg=pretrained": 'arch=dict(embed_dims=192, depth=2, mlp_ratio=1)',
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = two_flowers / 'mine.py'
    path.write_text(text)
    monkeypatch.chdir(two_flowers)
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    cfg.work_dir = str(two_flowers / 'work')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert list(runner.val_dataloader.dataset.CLASSES) == ['china', 'flower']


def predictor_rows():
    """Returns the cells of each row of the predictors' table, the path of the config first."""
    table = (PREDICTORS / 'README.md').read_text()
    rows = re.findall(r'^\| \[[\w-]+\]\((.+?)\) \|(.+) \|$', table, flags=re.MULTILINE)
    return [
        ((PREDICTORS / path).resolve(), *(c.strip() for c in cells.split('|')))
        for path, cells in rows
    ]


@pytest.mark.parametrize('row', predictor_rows(), ids=lambda row: row[0].stem)
@torch.no_grad()
def test_the_table_of_predictors_is_measured(row):
    path, layers, blocks, parameters, multiply_adds, *_ = row
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    dynamic = [n for n, m in model.named_modules() if n.endswith('.predictor')]
    assert {n.split('.')[-2] for n in dynamic} == set(filter(None, layers.split(', ')))
    assert len(model.backbone.dynamic_blocks) == int(blocks)
    assert f'{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M' == parameters
    with ops.use_backend('naive'), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert f'{counter.get_total_flops() / 2e9:.3f} G' == multiply_adds


def test_the_table_of_predictors_lists_every_config():
    listed = {row[0] for row in predictor_rows()}
    assert listed > set(PREDICTORS.glob('*.py'))


@pytest.mark.parametrize('task', ['classification', 'detection', 'segmentation'])
def test_the_table_of_results_lists_every_config_of_a_task(task):
    folder = ROOT / 'configs' / task
    table = (folder / 'README.md').read_text()
    rows = re.findall(r'^\| (?:\[.+?\]\((.+?)\.py\)|`(.+?)`) \|', table, flags=re.MULTILINE)
    prefix = dict(detection='vitdet-', segmentation='upernet_').get(task, '')
    listed = [link or prefix + name for link, name in rows]
    assert sorted(listed) == sorted(
        path.stem for path in folder.glob('*.py') if not path.stem.startswith('example')
    )


def generation_rows():
    table = (GENERATION / 'README.md').read_text()
    return re.findall(
        r'^\| \[[\w-]+\]\((.+?)\) \| (.+?) M \| (.+?) G \|', table, flags=re.MULTILINE
    )


@pytest.mark.parametrize('row', generation_rows(), ids=lambda row: row[0])
def test_the_table_of_generators_is_measured(row):
    path, parameters, multiply_adds = row
    cfg = Config.fromfile(GENERATION / path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert f'{sum(p.numel() for p in model.parameters()) / 1e6:.2f}' == parameters
    if 'small' in path:  # the others take seconds to build
        counts = count_multiply_adds(MODELS.build(cfg.model), (256, 256))
        assert f'{counts["total"] / 1e9:.3f}' == multiply_adds


def test_the_table_of_generators_lists_every_config():
    assert {row[0] for row in generation_rows()} == {p.name for p in GENERATION.glob('*.py')}


def test_the_documented_tenth_predictor_passes_the_tests_of_all_predictors(tmp_path, run_python):
    strategy, config = code_blocks(PREDICTORS / 'README.md', 'python')
    (tmp_path / 'my_strategy.py').write_text(strategy)
    (tmp_path / 'mine.py').write_text(config)
    command = next(b for b in code_blocks(PREDICTORS / 'README.md', 'bash') if 'pytest' in b)
    arguments = command.split(' pytest ')[1].split()
    result = run_python(
        'import sys, pytest\n'
        f'sys.path.insert(0, {str(tmp_path)!r})\n'
        'import mmwf\n'
        'from mmengine.config import Config\n'
        'from mmengine.registry import MODELS\n'
        f'cfg = Config.fromfile({str(tmp_path / "mine.py")!r})\n'
        'print(MODELS.build(cfg.model.backbone).blocks[1].mlp.fc1.predictor)\n'
        f'sys.exit(pytest.main({arguments!r}))\n'
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'ExcitationPredictor(' in result.stdout
    assert int(re.search(r'(\d+) passed', result.stdout)[1]) > 30
