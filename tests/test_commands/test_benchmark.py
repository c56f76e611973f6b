"""``mmwf benchmark``."""

import json

import mmpretrain
import pytest
import timm
import torch
from torch.testing import assert_close

from mmwf.analysis.throughput import Settings
from mmwf.apis.onnx_backbone import OnnxBackbone
from mmwf.commands import benchmark as tool
from mmwf.errors import UserError
from mmwf.models import WeightFormer


def test_a_row_of_the_table_has_the_numbers_or_the_error():
    row = dict(size=8, model='a', images_per_second=5.0, speed_ratio=1.0)
    row.update(memory_per_image_mib=50.0, memory_ratio=2.0)
    cells = [cell.strip() for cell in tool.format_row(row).strip('|').split('|')]
    assert cells == ['8', 'a', '5', '1.00', '50', '2.00']
    failed = tool.format_row(dict(size=8, model='large', error='out of memory'))
    assert '|     8 | large ' in failed and 'out of memory' in failed


def test_an_unknown_model_is_an_error_before_measuring(monkeypatch):
    monkeypatch.setattr(tool, 'measure', None)
    with pytest.raises(UserError, match='got resnet'):
        tool.main(['weightformer-tiny', 'resnet'])


@pytest.mark.parametrize(
    'options', [['--turns', '0'], ['--batch-size', '0'], ['--sizes', '64', '0']]
)
def test_nothing_to_measure_is_an_error_before_measuring(options, monkeypatch):
    monkeypatch.setattr(tool, 'measure', None)
    with pytest.raises(UserError, match='got .*0'):
        tool.main(['weightformer-tiny', *options])


def test_the_options_are_the_settings(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(tool, 'measure', lambda models, size, settings: used.append(settings) or [])
    monkeypatch.setattr(tool, 'draw_throughput', lambda *args: None)
    options = (
        '--device auto --dtype bf16 --mode forward-backward --compile --batch-size 2 --turns 3'
    )
    tool.main([*options.split(), '--sizes', '32', '--out', str(tmp_path / 'cost')])
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    assert used == [Settings(device, 'bf16', 'forward-backward', True, batch_size=2, turns=3)]


@pytest.mark.parametrize(
    'options', [['--mode', 'forward-backward'], ['--dtype', 'bf16'], ['--compile']]
)
def test_onnxruntime_runs_inference_in_fp32_only(options, monkeypatch):
    monkeypatch.setattr(tool, 'measure', None)
    with pytest.raises(UserError, match='Expected --device cpu --dtype fp32 --mode forward'):
        tool.main(['onnx:weightformer-tiny', '--device', 'cpu', *options])


@pytest.mark.slow
def test_a_model_in_onnxruntime_is_measured_beside_others(tmp_path):
    out = tmp_path / 'cost'
    models = ['weightformer-tiny', 'onnx:weightformer-tiny']
    tool.main([*models, '--device', 'cpu', '--sizes', '32', '--turns', '2', '--out', str(out)])
    first, second = json.loads((tmp_path / 'cost.json').read_text())['results']
    assert second['model'] == models[1] and len(second['seconds']) == 2
    assert second['speed_ratio'] > 0 and 'memory_per_image_mib' not in second
    assert first['memory_per_image_mib'] > 0


def test_a_backbone_in_onnxruntime_computes_the_same():
    backbone = WeightFormer(dict(embed_dims=16, depth=2, mlp_ratio=2)).eval()
    model, images = OnnxBackbone(backbone), torch.randn(2, 3, 40, 48)
    with torch.no_grad():
        assert_close(model(images), backbone(images), rtol=0, atol=1e-5)


def test_configs_with_the_same_name_get_different_labels(tmp_path, monkeypatch):
    paths = [tmp_path / folder / 'mine.py' for folder in 'ab']
    for path in paths:
        path.parent.mkdir()
        path.write_text("model = dict(backbone=dict(type='mmwf.WeightFormer'))")
    measured = []
    monkeypatch.setattr(tool, 'measure', lambda models, *args: measured.extend(models) or [])
    monkeypatch.setattr(tool, 'draw_throughput', lambda *args: None)
    out = ['--sizes', '32', '--out', str(tmp_path / 'cost')]
    tool.main([*map(str, paths), *out])
    tool.main([str(paths[0]), *out])
    assert measured == [*map(str, paths), 'mine']


def test_it_writes_results_machine_and_plot(tmp_path, capsys):
    out = tmp_path / 'cost'
    settings = ['--sizes', '32', '--turns', '1', '--mode', 'forward-backward']
    tool.main(['weightformer-tiny', *settings, '--out', str(out)])
    results = json.loads((tmp_path / 'cost.json').read_text())
    assert results['machine']['torch'] == torch.__version__ and results['machine']['device']
    assert results['machine']['timm'] == f'timm {timm.__version__}'
    assert results['machine']['mmpretrain'].endswith(f'mmpretrain {mmpretrain.__version__}')
    assert results['settings']['mode'] == 'forward-backward' and 'date' in results
    (row,) = results['results']
    assert (row['model'], row['size'], row['speed_ratio']) == ('weightformer-tiny', 32, 1)
    # Weights and gradients of 5.8 M parameters.
    assert row['memory_per_image_mib'] > 2 * 5.8e6 * 4 / 2**20
    assert '|    32 | weightformer-tiny' in capsys.readouterr().out
    assert (tmp_path / 'cost.png').stat().st_size
