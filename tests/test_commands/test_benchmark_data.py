"""``mmwf benchmark-data``."""

import re
from pathlib import Path

import pytest

from mmwf.analysis.data_throughput import write_photographs
from mmwf.commands.benchmark_data import choose_images, main
from mmwf.errors import UserError

TINY = Path(__file__).parents[2] / 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'


@pytest.mark.parametrize('own_images', [True, False])
def test_it_prints_a_row_for_each_pipeline(tmp_path, capsys, own_images):
    arguments = [str(TINY), '--num', '3', '--turns', '1']
    if own_images:
        write_photographs(tmp_path, 5)
        arguments += ['--images', str(tmp_path)]
    main(arguments)
    printed = capsys.readouterr().out
    assert printed.startswith('weightformer-tiny-p16_8xb256_in1k: 3 images, 1 turns\n')
    rows = re.findall(r'^\| (\w.*?) +\| +([\d.]+) \| +([\d.]+) x \|$', printed, re.MULTILINE)
    assert [name.split(',')[0] for name, *_ in rows] == [
        'this config',
        'timm',
        'timm',
        'torchvision v2',
        'torchvision v2',
    ]
    assert all(float(speed) > 0 and float(ratio) > 0 for _, speed, ratio in rows)


def test_images_are_evenly_spaced(tmp_path):
    for name in 'abcdef':
        (tmp_path / f'{name}.jpg').touch()
    assert [Path(path).stem for path in choose_images(tmp_path, 3)] == ['a', 'c', 'e']
    assert len(choose_images(tmp_path, 100)) == 6


def test_mistakes_are_errors(tmp_path):
    with pytest.raises(UserError, match='--num and --turns of at least 1, got 0 and 5'):
        main([str(TINY), '--num', '0'])
    with pytest.raises(UserError, match='Expected a folder with images, got'):
        main([str(TINY), '--images', str(tmp_path)])
