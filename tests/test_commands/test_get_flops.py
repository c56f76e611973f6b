"""``mmwf get-flops``."""

import json

import pytest

from mmwf.commands.get_flops import main

CONFIG = 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'


def test_it_prints_nothing_but_json_if_requested(capsys):
    main([CONFIG, '--shape', '224', '224', '--json'])
    counts = json.loads(capsys.readouterr().out)
    assert counts['convention'] == 'multiply-adds'
    assert {'backbone', 'neck', 'total', 'params'} <= set(counts)


def test_it_prints_a_table(capsys):
    main([CONFIG])
    printed = capsys.readouterr().out
    assert 'multiply-adds' in printed and '224 x 224' in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ['total', '1.124', 'G'] in lines and ['params', '7.074', 'M'] in lines


def test_it_says_if_only_backbone_and_neck_are_counted(capsys):
    main(['configs/detection/dino_weightformer-tiny-p16_8xb2-lsj-12e_coco.py'])
    printed = capsys.readouterr().out
    assert printed.endswith('Only backbone and neck of the DINO are counted.\n')
    lines = [line.split() for line in printed.splitlines()]
    giga = {line[0]: float(line[1]) for line in lines if line[-1] == 'G'}
    assert giga['backbone'] > 0 and giga['neck'] > 0 and len(giga) == 3
    assert giga['total'] == pytest.approx(giga['backbone'] + giga['neck'], abs=0.002)


def test_the_help_says_what_is_counted(capsys):
    with pytest.raises(SystemExit):
        main(['--help'])
    printed = capsys.readouterr().out
    assert 'proposals' in printed and 'mask head' in printed
