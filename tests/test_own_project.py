"""docs/own_project.md: its code runs, and its configs build and train."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import run
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from toy import write_coco

from mmwf.config_files import PUBLISHED
from mmwf.libraries import import_task_library
from mmwf.mmcv_ext import has_compiled_mmcv_ops
from mmwf.models import WeightFormer

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs/own_project.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, flags=re.DOTALL)
(OPTIMIZER,) = (block for block in BLOCKS if block.startswith('optim_wrapper'))
#: The configs by the package of their base.
CONFIGS = {match[1]: b for b in BLOCKS if (match := re.search(r"_base_ = '(\w+)::", b))}
LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')
HEADS = dict(mmdet='rpn_head', mmseg='decode_head', mmpretrain='head')


def installed(library):
    """Returns the folder in which a library installs its configs and tools."""
    return Path(find_spec(library).origin).parent / '.mim'


@pytest.fixture
def write_config(tmp_path):
    """Writes the config of a library, and the optimizer."""

    def write(library, more=''):
        path = tmp_path / 'my_config.py'
        path.write_text(f'{CONFIGS[library]}\n{OPTIMIZER}\n{more}')
        return path

    return write


def test_every_block_is_valid_python():
    for block in BLOCKS:
        compile(block, 'block', 'exec')


@pytest.mark.parametrize(('part', 'times'), [('MODELS', 'four'), ('timm', 'twice')])
def test_an_example_in_python_prints_what_its_comment_says(capsys, part, times):
    (example,) = (block for block in BLOCKS if 'torch.randn' in block and part in block)
    exec(example, {})
    shape = re.search(rf'# {times} (?:times )?(.*)', example)[1]
    expected = [shape] * {'four': 4, 'twice': 2}[times]
    assert capsys.readouterr().out == f'[{", ".join(expected)}]\n'


def test_the_example_with_names_builds_the_model_that_it_describes(capsys):
    (example,) = (block for block in BLOCKS if 'list_models' in block)
    names = {}
    exec(example, names)
    assert 'upernet_weightformer-tiny-p16_8xb2-160k_ade20k-512x512' in capsys.readouterr().out
    assert names['model'].head.num_classes == 10
    assert names['model'].backbone.out_indices == (8, 16)


def test_the_text_names_all_published_weights_and_no_others():
    (row,) = re.findall(r'^\| `True` \|(.*)', TEXT, flags=re.MULTILINE)
    assert set(re.findall(r'`([\w-]+)`', row)) == set(PUBLISHED)


def test_a_config_of_this_project_is_inherited(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIGS['mmwf'])
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert (cfg.default_scope, cfg.model.head.num_classes) == ('mmpretrain', 10)
    assert MODELS.build(cfg.model.backbone).blocks[-1].drop_path.drop_prob == pytest.approx(0.1)


def test_the_table_of_sizes_is_that_of_the_backbone():
    rows = re.findall(r'^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|', TEXT, flags=re.MULTILINE)
    assert {row[0] for row in rows} == set(WeightFormer.arch_zoo)
    for name, *sizes in rows:
        model = WeightFormer(arch=name)
        assert [int(size) for size in sizes] == [model.embed_dims, model.depth, model.patch_size]


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('library', LIBRARIES)
def test_a_config_builds_with_the_pretrained_weights_and_rates_that_the_text_names(
    library, write_config
):
    cfg = Config.fromfile(write_config(library))
    assert cfg.default_scope == library
    import_task_library(cfg)
    init_default_scope(library)
    model = MODELS.build(cfg.model)
    assert isinstance(model.backbone, WeightFormer)
    assert model.backbone.init_cfg['checkpoint'] == 'checkpoints/weightformer-tiny_in1k.pth'
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = wrapper.optimizer.param_groups
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    for module, expected in (
        (model.backbone.patch_embed, 1e-4 * 0.8**18),
        (model.backbone.blocks[3], 1e-4 * 0.8 ** (17 - 3)),
        (getattr(model, HEADS[library]), 1e-4),
    ):
        found = {rates[id(p)] for p in module.parameters()}
        assert list(found) == [pytest.approx(expected)]


@pytest.mark.slow
@pytest.mark.skipif(has_compiled_mmcv_ops(), reason='mmcv is compiled, so nothing is missing')
def test_mmdets_own_test_script_needs_the_command_of_the_text():
    tool = installed('mmdet') / 'tools/test.py'
    assert "No module named 'mmcv._ext'" in run(sys.executable, tool, '--help', code=1)
    code = re.search(r'python -c "(.*?)"', TEXT)[1]
    assert 'checkpoint file' in run(sys.executable, '-c', code, tool, '--help')


@pytest.mark.slow
def test_mmdets_own_train_script_trains_the_config(write_config, tmp_path):
    write_coco(tmp_path)
    config = write_config(
        'mmdet',
        f"""
model['backbone'].update(arch=dict(embed_dims=16, depth=17, mlp_ratio=1), init_cfg=None)
model['neck']['in_channels'] = 16
model['roi_head'] = dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2))
resize = dict(type='Resize', scale=(64, 64), keep_ratio=True)
load = _base_.train_pipeline[:2]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root={str(tmp_path)!r},
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train'),
        metainfo=dict(classes=('yellow', 'cyan')),
        pipeline=[*load, resize, _base_.train_pipeline[-1]],
    ),
)
train_cfg = dict(max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(logger=dict(interval=1))
""",
    )
    tool = installed('mmdet') / 'tools/train.py'
    log = run(sys.executable, tool, config, '--work-dir', tmp_path / 'out')
    losses = [float(loss) for loss in re.findall(r'\bloss: ([\d.]+|nan)', log)]
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses)
    assert (tmp_path / 'out/epoch_1.pth').is_file()
