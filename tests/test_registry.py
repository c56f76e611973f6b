"""``type='WeightFormer'`` and ``type='mmwf.WeightFormer'`` work in the scope of every library."""

import pytest
from mmengine.registry import MODELS, DefaultScope

from mmwf import models, placeholders
from mmwf.families import describe
from mmwf.models import WeightFormer

BUILD = """
from mmengine.registry import MODELS, init_default_scope
init_default_scope({scope!r})
arch = dict(embed_dims=16, depth=3, mlp_ratio=4)
model = MODELS.build(dict(type={type!r}, arch=arch, out_indices=(0, 2)))
print(type(model).__module__, type(model).__name__, model.out_indices)
"""


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('type_', ['WeightFormer', 'mmwf.WeightFormer'])
def test_a_fresh_interpreter_builds_it_by_name(run_python, scope, type_):
    # The name with scope makes MMEngine import mmwf. In mmdet's scope that is too late: MMEngine
    # imports mmdet.models first, which needs the mmcv.ops that `import mmwf` provides. So does
    # upstream's mmseg.models.
    needs_mmcv_ops = {'mmdet'} if describe('mmseg').startswith('onedl-') else {'mmdet', 'mmseg'}
    needs_import = type_ == 'WeightFormer' or scope in needs_mmcv_ops
    code = 'import mmwf\n' * needs_import + BUILD.format(scope=scope, type=type_)
    result = run_python(code)
    expected = 'mmwf.models.backbones.weightformer WeightFormer (0, 2)'
    assert result.stdout.strip().endswith(expected), result.stderr


def test_importing_mmwf_registers_every_model_that_needs_no_scope(run_python):
    result = run_python(
        'import mmwf\n'
        'from mmengine.registry import MODELS\n'
        "print({'LayerNorm2d', 'SimpleFPN', 'WeightFormer'} <= set(MODELS.module_dict))\n"
    )
    assert result.stdout.strip() == 'True', result.stderr


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [('LayerNorm2d', (4,)), ('SimpleFPN', (8, 8)), ('WeightFormer', ('tiny',))],
)
def test_a_placeholder_builds_the_class_of_its_name(name, arguments):
    assert type(placeholders._make(name)(*arguments)) is getattr(models, name)


def test_the_class_replaces_the_placeholder():
    assert MODELS.get('WeightFormer') is WeightFormer
    assert MODELS.get('mmwf.WeightFormer') is WeightFormer


def test_a_bad_argument_in_a_config_keeps_its_message():
    with pytest.raises(ValueError, match="'base', 'small', 'tiny'"):
        MODELS.build(dict(type='mmwf.WeightFormer', arch='huge'))


def test_building_does_not_change_the_default_scope():
    before = DefaultScope.get_current_instance()
    MODELS.build(dict(type='mmwf.WeightFormer', arch=dict(embed_dims=16, depth=1, mlp_ratio=1)))
    assert DefaultScope.get_current_instance() is before
