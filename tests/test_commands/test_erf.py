"""``mmwf erf``: its numbers, its files and its errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmwf.analysis.backbone import build_backbone
from mmwf.commands.erf import main
from mmwf.engine.config import load_config
from mmwf.errors import UserError

CONFIG = 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'


@pytest.fixture
def args(tmp_path):
    """Arguments for a static backbone and two images."""
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (50, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.png'), noise)
    config = tmp_path / 'toy.py'
    arch = dict(embed_dims=8, depth=3, mlp_ratio=1)
    model = dict(backbone=dict(arch=arch), head=dict(in_channels=8))
    config.write_text(f'_base_ = {str(Path(__file__).parents[2] / CONFIG)!r}\nmodel = {model!r}\n')
    options = ['--cfg-options', 'model.backbone.dynamic_blocks=none']
    return [str(config), '--images', str(tmp_path), '--shape', '44', '60', *options]


def test_both_fields_are_plotted_saved_and_measured(args, tmp_path, randomize, capsys):
    checkpoint = tmp_path / 'a.pth'
    cfg = load_config(args[0], {'model.backbone.dynamic_blocks': 'none'})
    torch.save(randomize(build_backbone(cfg)).state_dict(), checkpoint)
    out = tmp_path / 'new' / 'erf.png'
    config, *options = args
    main([config, '--init', str(checkpoint), '--num-images', '1', '--out', str(out), *options])

    assert cv2.imread(str(out)).shape[1] > 800  # two maps side by side
    report = json.loads(out.with_suffix('.json').read_text())
    assert (report['shape'], report['images']) == ([44, 60], 1)
    fields = np.load(out.with_suffix('.npz'))
    assert sorted(fields) == ['after_training', 'before_training']
    printed = capsys.readouterr().out
    for title, squares in report['squares'].items():
        field = fields[title.replace(' ', '_')]
        assert field.shape == (44, 60)
        reached = field[8:36, 16:44]  # three convolutions on patches of 4: 28 pixels
        assert reached.sum() == field.sum() > 0
        for share, square in squares.items():
            part = float(share[:-1]) / 100 * field.sum()
            side = square['side']
            inner, outer = (
                field[22 - n // 2 : 22 + n // 2, 30 - n // 2 : 30 + n // 2].sum()
                for n in (side - 2, side)
            )
            assert inner < part <= outer
            assert square['area_share'] == pytest.approx(side**2 / (44 * 60), abs=1e-4)
            assert f'{title:<16}{share:>4}  {side:>5} px' in printed


def test_a_backbone_without_a_feature_map_is_an_error(args, tmp_path):
    backbone = dict(type='ConvNeXt', arch='atto', _delete_=True)
    base = str(Path(__file__).parents[2] / CONFIG)
    Path(args[0]).write_text(f'_base_ = {base!r}\nmodel = dict(backbone={backbone})\n')
    command = [*args[:-2], '--init', '--out', str(tmp_path / 'erf.png')]
    with pytest.raises(UserError, match=r'got \(1, 320\).* ConvNeXt with gap_before_final_norm=F'):
        main(command)
    main([*command, '--cfg-options', 'model.backbone.gap_before_final_norm=False'])
    assert (tmp_path / 'erf.png').exists()


def test_mistakes_are_reported(args, tmp_path):
    out = ['--out', str(tmp_path / 'erf.png')]
    with pytest.raises(UserError, match='Expected a CHECKPOINT, --init'):
        main([*args, *out])
    with pytest.raises(UserError, match=r'Expected --out FILE\.png, got erf\.pdf'):
        main([*args, '--init', '--out', 'erf.pdf'])
    with pytest.raises(UserError, match='There is no checkpoint'):
        main([args[0], 'none.pth', *args[1:], *out])
    assert not (tmp_path / 'erf.png').exists()
