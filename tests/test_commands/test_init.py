"""``mmwf init`` writes configs that train, for each kind of folder that it knows."""

import json
from pathlib import Path

import cv2
import pytest
from helpers import run_tool
from toy import write_coco

from mmwf.apis.own_config import WIDTHS, write_own_config
from mmwf.commands import init
from mmwf.engine.config import load_config
from mmwf.errors import UserError

CLASSES = ('yellow', 'cyan')


def read_squares(root):
    """Yields split, image file, its shape, and its (class, box) pairs of the toy scenes."""
    for split in ('train', 'val'):
        content = json.loads((root / f'annotations/instances_{split}.json').read_text())
        for image in content['images']:
            objects = [
                (CLASSES[item['category_id'] - 1], item['bbox'])
                for item in content['annotations']
                if item['image_id'] == image['id']
            ]
            path = root / split / image['file_name']
            yield split, path, cv2.imread(str(path)), objects


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def to_yolo(scenes, root):
    for split, path, image, objects in scenes:
        height, width = image.shape[:2]
        lines = [
            f'{CLASSES.index(name)} {(x + w / 2) / width} {(y + h / 2) / height} '
            f'{w / width} {h / height}'
            for name, (x, y, w, h) in objects
        ]
        save(root / 'images' / split / path.name, image)
        write(root / 'labels' / split / f'{path.stem}.txt', '\n'.join(lines))
    write(root / 'classes.txt', '\n'.join(CLASSES))


def to_voc(scenes, root):
    for split, path, image, objects in scenes:
        name = f'{split}_{path.stem}'
        text = ''.join(
            f'<object><name>{label}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
            f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
            for label, (x, y, w, h) in objects
        )
        save(root / 'JPEGImages' / f'{name}.jpg', image)
        write(root / 'Annotations' / f'{name}.xml', f'<annotation>{text}</annotation>')


def to_labelme(scenes, root):
    for split, path, image, objects in scenes:
        shapes = [
            dict(label=name, shape_type='rectangle', points=[[x, y], [x + w, y + h]])
            for name, (x, y, w, h) in objects
        ]
        save(root / split / path.name, image)
        content = dict(imagePath=path.name, shapes=shapes)
        write(root / split / f'{path.stem}.json', json.dumps(content))


def to_label_maps(scenes, root):
    for split, path, image, objects in scenes:
        label_map = image[..., 0] * 0
        for name, (x, y, w, h) in objects:
            label_map[y : y + h, x : x + w] = 1 + CLASSES.index(name)
        save(root / 'images' / split / path.name, image)
        save(root / 'annotations' / split / path.name, label_map)
    write(root / 'classes.txt', '\n'.join(('background', *CLASSES)))


def to_class_folders(scenes, root):
    for split, path, image, objects in scenes:
        for number, (name, (x, y, w, h)) in enumerate(objects):
            save(root / name / f'{split}_{path.stem}_{number}.png', image[y : y + h, x : x + w])


KINDS = dict(
    coco=None,
    yolo=to_yolo,
    voc=to_voc,
    labelme=to_labelme,
    label_maps=to_label_maps,
    class_folders=to_class_folders,
)


def make_data(tmp_path, kind):
    scenes = write_coco(tmp_path / 'scenes')
    if KINDS[kind] is None:
        return scenes
    KINDS[kind](read_squares(scenes), tmp_path / kind)
    return tmp_path / kind


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_the_written_config_trains(tmp_path, kind):
    config = tmp_path / 'own.py'
    data = make_data(tmp_path, kind)
    run_tool('init.py', '--data', data, '--like', 'quickstart', '--out', config)
    if kind == 'class_folders':
        options = ['train_cfg.max_epochs=1']
    else:
        options = ['train_cfg.max_iters=1', 'train_dataloader.batch_size=2']
    work_dir = tmp_path / 'run'
    run_tool('train.py', config, '--work-dir', work_dir, '--cfg-options', *options)
    assert (work_dir / 'last_checkpoint').exists()


@pytest.mark.parametrize('like', WIDTHS)
@pytest.mark.parametrize('kind', ['voc', 'label_maps', 'class_folders'])
def test_the_model_has_the_classes_and_the_width(tmp_path, kind, like):
    out = tmp_path / 'own.py'
    write_own_config(make_data(tmp_path, kind), out, like=like)
    cfg = load_config(out)
    width = WIDTHS[like]
    if kind == 'class_folders':
        assert (cfg.model.head.num_classes, cfg.model.head.in_channels) == (2, width)
        assert cfg.train_dataloader.batch_size == 9  # all training images
    elif kind == 'voc':
        heads = cfg.model.roi_head.bbox_head
        heads = heads if isinstance(heads, list) else [heads]
        assert [head.num_classes for head in heads] == [2] * len(heads)
        assert cfg.model.neck.in_channels == width
        assert cfg.model.roi_head.mask_head is None and cfg.val_evaluator.metric == ['bbox']
    else:
        assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
        assert cfg.model.neck.embed_dim == width
    if like != 'quickstart':
        assert cfg.model.backbone.arch == like
        checkpoint = cfg.model.backbone.init_cfg.checkpoint
        assert checkpoint == f'checkpoints/weightformer-{like}_in1k.pth'
        assert cfg.weights_help.endswith(f'hf://RuizeHe/weightformer-{like[0]} {checkpoint}\n')


def test_the_length_depends_on_the_number_of_images(tmp_path):
    def iterations(number, like='tiny'):
        content = dict(
            images=[dict(id=i, file_name='0.png', height=40, width=64) for i in range(number)],
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], iscrowd=0)],
            categories=[dict(id=1, name='square')],
        )
        write(scenes / 'annotations/instances_train.json', json.dumps(content))
        out = tmp_path / f'{number}_{like}.py'
        write_own_config(scenes, out, like=like)
        return load_config(out).train_cfg.max_iters

    scenes = write_coco(tmp_path / 'scenes')
    assert [iterations(n) for n in (10, 1000, 100_000)] == [2000, 9000, 90_000]
    assert [iterations(n, 'quickstart') for n in (10, 1000)] == [400, 2200]


def test_an_existing_file_is_kept(tmp_path):
    out = tmp_path / 'own.py'
    out.write_text('mine')
    with pytest.raises(UserError, match='exists'):
        write_own_config(make_data(tmp_path, 'coco'), out)
    assert out.read_text() == 'mine'


def test_existing_annotations_are_kept(tmp_path):
    mine = tmp_path / 'own_train.json'
    mine.write_text('mine')
    with pytest.raises(UserError, match=r'own_train\.json exists'):
        write_own_config(make_data(tmp_path, 'yolo'), tmp_path / 'own.py')
    assert mine.read_text() == 'mine' and not (tmp_path / 'own_val.json').exists()


def test_the_next_command_can_be_copied(tmp_path, capsys, monkeypatch):
    data = make_data(tmp_path, 'yolo').rename(tmp_path / 'my data')
    monkeypatch.chdir(tmp_path)
    init.main(['--data', str(data)])
    assert "mmwf train 'my data_own.py'" in capsys.readouterr().out.splitlines()[-1]
    assert "mmwf train 'my data_own.py'" in Path('my data_own.py').read_text()


def test_the_config_must_be_a_python_file(tmp_path):
    with pytest.raises(UserError, match=r'a name like my_config\.py'):
        write_own_config(tmp_path, tmp_path / 'own.yaml')


def test_the_command_says_what_it_found_and_what_comes_next(tmp_path, capsys, monkeypatch):
    data = make_data(tmp_path, 'yolo')
    monkeypatch.chdir(tmp_path)
    init.main(['--data', str(data)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        'detection from YOLO, 2 classes: yellow, cyan',
        '4 training and 4 validation images, typically 60 x 56 pixels',
        'Written: yolo_own.py',
        'Next: mmwf train yolo_own.py',
    ]
    assert Path('yolo_own_train.json').exists()
