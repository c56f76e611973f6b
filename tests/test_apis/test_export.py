"""Exporting models, and what the exported files compute."""

import json

import onnx
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch.testing import assert_close

from mmwf.apis import export_pooling, exported, init_model
from mmwf.apis.export import build_exportable, check_exported, export_model, trace
from mmwf.apis.exported import MODELS, OnnxModel, TorchModel
from mmwf.commands import export as tool
from mmwf.engine.config import load_config
from mmwf.errors import UserError

CONFIGS = dict(
    classification='configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py',
    segmentation='configs/quickstart/upernet_weightformer-w64d8-p4_1xb16-1100i_scenes-64px.py',
    features=(
        'configs/quickstart/'
        'vitdet-cascade-mask-rcnn_weightformer-w64d8-p4_1xb16-300i_scenes-64px.py'
    ),
)
GENERATOR = 'configs/quickstart/dit_weightformer-w64d6-p2_1xb64-1500i_digits-8px.py'
dynamic_shapes = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11),
    reason='torch 2.6 cannot trace these models for all sizes; newer ones before 2.11: not tried',
)
#: Height and width: square, wide, and neither square nor in whole patches.
SIZES = [(32, 32), (32, 68), (53, 35)]


def load_small(task):
    """A config with patches of 4 pixels and few blocks, of which the second is dynamic."""
    cfg = load_config(CONFIGS[task])
    depth = 4 if task == 'segmentation' else 2
    cfg.model.backbone.update(arch=dict(embed_dims=64, depth=depth, mlp_ratio=2), init_cfg=None)
    if task == 'segmentation':
        cfg.model.backbone.update(out_indices=(0, 1, 2, 3), dynamic_blocks=(1,))
    return cfg


@pytest.fixture
def trained(tmp_path, randomize):
    """Makes a config, and a checkpoint with weights that give outputs above 1."""

    def make(task):
        cfg = load_small(task)
        torch.manual_seed(0)
        model = randomize(init_model(cfg, device='cpu'), std=0.2)
        meta = dict(dataset_meta=dict(classes=list('abcdefghij')))
        torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
        return cfg, str(tmp_path / 'epoch_1.pth')

    return make


@torch.no_grad()
def run_library(model, task, images):
    """What the library itself computes."""
    if task == 'classification':
        return (model(images),)
    if task == 'features':
        return model.extract_feat(images)
    shape = tuple(images.shape[2:])
    metas = [dict(img_shape=shape, pad_shape=shape, ori_shape=shape) for _ in images]
    return (model.encode_decode(images, metas),)


@dynamic_shapes
@pytest.mark.slow
@pytest.mark.parametrize(
    ('task', 'format'), [*((task, 'onnx') for task in CONFIGS), ('segmentation', 'torch-export')]
)
def test_one_file_serves_all_sizes_and_batches(task, format, trained, tmp_path):
    cfg, checkpoint = trained(task)
    export_model(cfg, checkpoint, tmp_path / 'file.pt2', format=format, dynamic=True)
    model, actual = init_model(cfg, checkpoint, 'cpu'), MODELS[format](tmp_path / 'file.pt2')
    assert actual.metadata['shape'] == ['batch', 3, 'height', 'width']
    for size in SIZES:
        for batch_size in (1, 3):
            images = torch.randn(batch_size, 3, *size)
            expected = run_library(model, task, images)
            assert max(output.abs().max() for output in expected) > 0.1
            assert_close(actual(images), tuple(expected), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('task', 'format'), [*((task, 'torch-export') for task in CONFIGS), ('features', 'onnx')]
)
def test_a_file_of_fixed_size_computes_the_same_and_refuses_other_sizes(
    task, format, trained, tmp_path
):
    cfg, checkpoint = trained(task)
    out = tmp_path / 'file.pt2'
    export_model(cfg, checkpoint, out, format=format, shape=(36, 44), batch_size=2)
    model, actual = init_model(cfg, checkpoint, 'cpu'), MODELS[format](out)
    images = torch.randn(2, 3, 36, 44)
    expected = tuple(run_library(model, task, images))
    assert_close(actual(images), expected, rtol=0, atol=1e-4)
    with pytest.raises(Exception, match='36|dimension'):
        actual(torch.randn(2, 3, 40, 44))


def test_the_metadata_say_how_to_prepare_images(trained, tmp_path):
    cfg, checkpoint = trained('classification')
    cfg.data_preprocessor.update(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
    export_model(cfg, checkpoint, tmp_path / 'a.onnx')
    metadata = OnnxModel(tmp_path / 'a.onnx').metadata
    assert metadata['mean'] == [1, 2, 3] and metadata['std'] == [4, 5, 6]
    assert metadata['channels'] == 'RGB' and metadata['classes'] == list('abcdefghij')
    assert metadata['shape'] == [1, 3, 32, 32] and metadata['names'] == ['logits']
    export_model(cfg, checkpoint, tmp_path / 'a.pt2', format='torch-export')
    assert TorchModel(tmp_path / 'a.pt2').metadata == metadata
    # As another program reads them.
    content = onnx.load(tmp_path / 'a.onnx')
    entries = {entry.key: json.loads(entry.value) for entry in content.metadata_props}
    assert entries == metadata
    assert [entry.name for entry in content.graph.input] == ['images']
    assert {node.domain for node in content.graph.node} == {''}  # standard operations only
    assert [path.name for path in tmp_path.iterdir() if 'onnx' in path.name] == ['a.onnx']


@dynamic_shapes
def test_the_dimensions_of_a_dynamic_file_have_names(trained, tmp_path):
    export_model(*trained('classification'), tmp_path / 'a.onnx', dynamic=True)
    (images,) = onnx.load(tmp_path / 'a.onnx').graph.input
    dims = [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim]
    assert dims == ['batch', 3, 'height', 'width']


def test_the_check_finds_a_file_of_other_weights(trained, tmp_path):
    cfg, checkpoint = trained('classification')
    out = tmp_path / 'a.pt2'
    module, shapes = export_model(cfg, checkpoint, out, format='torch-export')
    assert check_exported(module, out, 'torch-export', shapes)[0] < 1e-5
    with torch.no_grad():
        module.head.fc.bias[3] += 0.01
    with pytest.raises(UserError, match='differs from PyTorch by 0.01 on 1 x 3 x 32 x 32'):
        check_exported(module, out, 'torch-export', shapes)


def test_nan_is_a_difference(trained, tmp_path):
    cfg, checkpoint = trained('classification')
    out = tmp_path / 'a.pt2'
    module, shapes = export_model(cfg, checkpoint, out, format='torch-export')
    with torch.no_grad():
        module.head.fc.bias[3] = torch.nan
    with pytest.raises(UserError, match='differs from PyTorch by nan'):
        check_exported(module, out, 'torch-export', shapes)


@pytest.mark.parametrize('format', list(MODELS))
def test_a_file_that_is_none_is_a_user_error(format, tmp_path):
    (tmp_path / 'a').write_text('text')
    with pytest.raises(UserError, match='cannot read'):
        MODELS[format](tmp_path / 'a')


def test_other_models_are_refused():
    with pytest.raises(UserError, match='Expected a config of .*, got mmwf.GaussianDiffusion'):
        build_exportable(load_config(GENERATOR))
    with pytest.raises(UserError, match=r'got None \(None\)'):
        build_exportable(Config())
    depth = 'configs/depth/depth_weightformer-tiny-p16_4xb8-25k_nyu-480x480.py'
    with pytest.raises(UserError, match='got DepthEstimator'):
        build_exportable(load_config(depth))


def test_what_cannot_be_traced_is_a_user_error(trained):
    module, _ = build_exportable(*trained('classification'))
    module.head.forward = lambda x: x[0] if x[0].sum() > 0 else -x[0]
    with pytest.raises(UserError, match='torch.export of torch .* cannot trace this model: .'):
        trace(module, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named_with_its_command(package, monkeypatch, tmp_path):
    find_spec = exported.find_spec
    monkeypatch.setattr(exported, 'find_spec', lambda n: None if n == package else find_spec(n))
    monkeypatch.setattr(tool, 'export_model', None)  # found before the work
    out = str(tmp_path / 'a.onnx')
    with pytest.raises(UserError, match=rf'needs {package}, .* pip install "mmwf\[export\]"$'):
        tool.main([CONFIGS['classification'], 'none.pth', '--out', out])


@pytest.mark.parametrize(
    'options', [['--dynamic', '--shape', '15', '32'], ['--batch-size', '0'], ['--shape', '0', '9']]
)
def test_a_size_that_is_too_small_is_named(options, trained, tmp_path, monkeypatch):
    cfg, checkpoint = trained('classification')
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'a.onnx'
    arguments = [str(tmp_path / 'config.py'), checkpoint, '--out', str(out), *options]
    with pytest.raises(UserError, match='Expected images of at least (16 x 16|1 x 1) pixels'):
        tool.main(arguments)
    assert not out.exists()


@dynamic_shapes
@pytest.mark.slow
def test_the_command_writes_and_checks_a_file(trained, tmp_path, capsys):
    cfg, checkpoint = trained('classification')
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'new/a.onnx'
    tool.main([str(tmp_path / 'config.py'), checkpoint, '--dynamic', '--out', str(out)])
    written, title, *rows = capsys.readouterr().out.splitlines()
    assert written.startswith(f'Written: {out} (classification, onnx, ')
    assert title == 'Largest difference between PyTorch and onnxruntime:'
    assert [row.split('  ')[1].strip() for row in rows] == [
        f'{b} x 3 x {h} x {w}' for h, w in ((32, 32), (40, 64), (53, 35)) for b in (1, 3)
    ]
    assert all(float(row.split()[-1]) < 1e-4 for row in rows)


def test_a_file_that_differs_is_removed(trained, tmp_path, monkeypatch):
    cfg, checkpoint = trained('classification')
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'a.pt2'

    def forward(self, images):
        return tuple(output + 1 for output in self.program(images))

    monkeypatch.setattr(TorchModel, 'forward', forward)
    arguments = ['--format', 'torch-export', '--out', str(out)]
    with pytest.raises(UserError, match='differs from PyTorch by 1 on'):
        tool.main([str(tmp_path / 'config.py'), checkpoint, *arguments])
    assert not out.exists()
    tool.main([str(tmp_path / 'config.py'), checkpoint, *arguments, '--no-check'])
    assert out.exists()


@pytest.mark.parametrize('size', [(8, 8), (9, 12), (13, 7)])
@pytest.mark.parametrize('pooled', [1, 3, (2, 5), 6])
def test_adaptive_pooling_is_that_of_pytorch(size, pooled):
    x = torch.randn(2, 3, *size)
    actual = export_pooling.adaptive_avg_pool2d(x, pooled)
    assert_close(actual, F.adaptive_avg_pool2d(x, pooled))


@pytest.mark.parametrize('size', [(8, 8), (9, 12), (13, 7)])
@pytest.mark.parametrize(('kernel', 'stride'), [(2, None), (4, 4), (1, 2), ((3, 2), (2, 1))])
def test_max_pooling_is_that_of_pytorch(size, kernel, stride):
    x = torch.randn(2, 3, *size)
    expected = F.max_pool2d(x, kernel, stride)
    assert torch.equal(export_pooling.max_pool2d(x, kernel, stride), expected)
    with export_pooling.ExportPooling():
        assert torch.equal(torch.nn.MaxPool2d(kernel, stride)(x), expected)


def test_max_pooling_with_padding_stays_that_of_pytorch():
    x = torch.randn(2, 3, 9, 12)
    with export_pooling.ExportPooling():
        actual = torch.nn.MaxPool2d(3, 2, padding=1)(x)
    assert torch.equal(actual, F.max_pool2d(x, 3, 2, padding=1))
