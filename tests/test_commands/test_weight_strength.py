"""``mmwf weight-strength``: its table, its plot and its errors."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmwf.analysis.backbone import BackboneInputs, build_backbone
from mmwf.analysis.weight_strength import measure_weight_strength
from mmwf.commands.weight_strength import main
from mmwf.engine.config import load_config
from mmwf.errors import UserError

CONFIG = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'toy.py'
    arch = dict(embed_dims=8, depth=5, mlp_ratio=1)
    model = dict(backbone=dict(arch=arch), head=dict(in_channels=8))
    path.write_text(f'_base_ = {str(Path(__file__).parents[2] / CONFIG)!r}\nmodel = {model!r}\n')
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.png'), noise)
    return path


def save_random(config, path, randomize, **options):
    backbone = randomize(build_backbone(load_config(config, options)))
    torch.save(backbone.state_dict(), path)
    return backbone


def test_the_table_has_mean_and_std_of_each_layer(config, tmp_path, randomize, capsys):
    backbone = save_random(config, tmp_path / 'a.pth', randomize)
    out = tmp_path / 'new' / 'strength.png'
    main([str(config), str(tmp_path / 'a.pth'), '--images', str(tmp_path), '--out', str(out)])

    images = BackboneInputs(tmp_path, load_config(config), (32, 32), 3)
    strength = measure_weight_strength(backbone, images)
    with out.with_suffix('.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [f'blocks.{row["block"]}.{row["layer"]}' for row in rows] == list(strength)
    printed = capsys.readouterr().out
    for row, ratios in zip(rows, strength.values(), strict=True):
        values = np.array(ratios.tolist())
        assert float(row['mean']) == pytest.approx(values.mean(), rel=1e-5)
        assert float(row['std']) == pytest.approx(values.std(), rel=1e-3)
        assert f'{row["layer"]:<8}{values.mean():>9.3g}' in printed
    assert cv2.imread(str(out)).std() > 0


def test_mistakes_are_reported(config, tmp_path, randomize):
    args = ['--images', str(tmp_path), '--out', str(tmp_path / 'strength.png')]
    static = 'model.backbone.dynamic_blocks'
    save_random(config, tmp_path / 'a.pth', randomize, **{static: 'none'})
    command = [str(config), str(tmp_path / 'a.pth'), *args]
    with pytest.raises(UserError, match='The backbone of .*toy.py has no dynamic layers'):
        main([*command, '--cfg-options', f'{static}=none'])
    with pytest.raises(UserError, match='does not fit this WeightFormer'):
        main(command)
    with pytest.raises(UserError, match=r'Expected --out FILE\.png, got a\.csv'):
        main([*command, '--out', 'a.csv'])
    assert not (tmp_path / 'strength.png').exists()
