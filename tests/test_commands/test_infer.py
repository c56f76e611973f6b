"""``mmwf infer`` on folders of pictures."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from toy_checkpoints import make_checkpoint

from mmwf.apis import Inferencer
from mmwf.commands import infer
from mmwf.errors import UserError

DIGITS = list('0123456789')


@pytest.fixture
def photos(tmp_path):
    """Two pictures of one name, and one of another format and size."""
    rng = np.random.default_rng(0)
    for name, shape in (('a/x.png', (32, 40)), ('b/x.png', (32, 40)), ('b/y.jpg', (50, 30))):
        (tmp_path / 'photos' / name).parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / 'photos' / name)
    return tmp_path / 'photos'


def read(folder):
    return json.loads((folder / 'predictions.json').read_text())


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


@pytest.fixture
def classifier(tmp_path):
    return make_checkpoint('*digits-32px.py', DIGITS, tmp_path)


def test_every_picture_is_classified_and_drawn_under_its_name(classifier, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    infer.main([*classifier, str(photos), '--out', str(out), '--batch-size', '2'])
    assert files(out) == [
        'pictures/a/x.png', 'pictures/b/x.png', 'pictures/b/y.jpg', 'predictions.json'
    ]  # fmt: skip
    content = read(out)
    assert (content['task'], content['classes']) == ('classification', DIGITS)
    assert content['checkpoint'] == classifier[1] and content['failed'] == []
    names = [entry['input'] for entry in content['predictions']]
    assert names == [str(photos / name) for name in ('a/x.png', 'b/x.png', 'b/y.jpg')]
    expected = Inferencer(*classifier, 'cpu')(names)
    for entry, prediction in zip(content['predictions'], expected, strict=True):
        with Image.open(entry['input']) as file:
            assert (entry['width'], entry['height']) == file.size
        assert entry['names'] == [DIGITS[label] for label in prediction.labels]
        assert entry['scores'] == pytest.approx(prediction.scores.tolist(), abs=2e-5)
        assert (out / entry['picture']).is_file()
    assert 'classification, 3 pictures' in capsys.readouterr().out


def test_unreadable_files_are_named_and_listed_and_the_others_done(
    classifier, photos, tmp_path, capsys
):
    (photos / 'a/bad.png').write_bytes(b'no image')
    (photos / 'clip.mp4').write_bytes(b'no video')
    out = tmp_path / 'out'
    with pytest.raises(UserError, match=r'2 of 5 inputs could not be read.*predictions\.json'):
        infer.main([*classifier, str(photos), str(photos / 'clip.mp4'), '--out', str(out)])
    content = read(out)
    assert len(content['predictions']) == 3
    assert [entry['input'] for entry in content['failed']] == [
        str(photos / name) for name in ('a/bad.png', 'clip.mp4')
    ]
    printed = capsys.readouterr().err
    assert all(f'skipped: {entry["error"]}' in printed for entry in content['failed'])


def test_files_of_one_name_do_not_overwrite_each_other(classifier, photos, tmp_path):
    out = tmp_path / 'out'
    inputs = [str(photos / name) for name in ('a/x.png', 'b/x.png')]
    infer.main([*classifier, *inputs, '--out', str(out)])
    assert files(out / 'pictures') == ['x.png', 'x_2.png']
    pictures = {entry['input']: entry['picture'] for entry in read(out)['predictions']}
    for path, picture in pictures.items():
        drawn = Image.open(out / picture).resize((480, 384), box=(0, 0, 480, 384))
        shown = np.asarray(drawn.resize((40, 32), Image.Resampling.BOX)).astype(int)
        assert np.abs(shown - np.asarray(Image.open(path))).mean() < 25


def test_a_second_run_does_not_read_the_output_of_the_first(classifier, photos):
    for _ in range(2):
        infer.main([*classifier, str(photos), '--out', str(photos / 'out')])
    assert len(read(photos / 'out')['predictions']) == 3


def test_frames_of_a_video_are_pictures(classifier, tmp_path):
    path = str(tmp_path / 'clip.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 5, (32, 32))
    for i in range(5):
        writer.write(np.full((32, 32, 3), 50 * i, np.uint8))
    writer.release()
    infer.main([*classifier, path, '--out', str(tmp_path / 'out'), '--frame-step', '2'])
    assert [(e['frame'], e['picture']) for e in read(tmp_path / 'out')['predictions']] == [
        (i, f'pictures/clip/{i:06d}.png') for i in (0, 2, 4)
    ]


@pytest.mark.parametrize('options', [[], ['--tile', '32', '--overlap', '8']])
def test_detections_have_boxes_and_masks_at_the_size_of_the_picture(photos, tmp_path, options):
    settings = dict(model__test_cfg__rcnn__score_thr=0.0, model__test_cfg__rcnn__max_per_img=5)
    paths = make_checkpoint('vitdet*', DIGITS, tmp_path, **settings)
    out = tmp_path / 'out'
    infer.main([*paths, str(photos), '--out', str(out), '--score-thr', '0', *options])
    assert len(files(out / 'pictures')) == 3
    for entry in read(out)['predictions']:
        assert len(entry['boxes']) > 0
        masks = rle.decode(entry['masks'])
        assert masks.shape == (entry['height'], entry['width'], len(entry['boxes']))
        for (x1, y1, x2, y2), mask in zip(entry['boxes'], masks.transpose(2, 0, 1), strict=True):
            ys, xs = np.nonzero(mask)
            inside = (xs >= x1 - 1) & (xs <= x2 + 1) & (ys >= y1 - 1) & (ys <= y2 + 1)
            assert inside.all()
        assert len({len(entry[key]) for key in ('boxes', 'labels', 'names', 'scores')}) == 1


def test_a_threshold_that_leaves_nothing_is_said(photos, tmp_path, capsys):
    paths = make_checkpoint('vitdet*', DIGITS, tmp_path, model__test_cfg__rcnn__score_thr=0.0)
    infer.main([*paths, str(photos / 'a'), '--out', str(tmp_path / 'out'), '--score-thr', '0.99'])
    assert read(tmp_path / 'out')['predictions'][0]['boxes'] == []
    assert re.search(
        r'No object has a score of 0.99 or more; the best has 0\.\d+', capsys.readouterr().out
    )


def test_segmentation_writes_class_maps_and_no_pictures_if_asked(photos, tmp_path):
    paths = make_checkpoint('upernet*', ['background', *DIGITS], tmp_path)
    out = tmp_path / 'out'
    infer.main([*paths, str(photos), '--out', str(out), '--no-pictures'])
    assert files(out) == ['maps/a/x.png', 'maps/b/x.png', 'maps/b/y.png', 'predictions.json']
    expected = Inferencer(*paths, 'cpu')([photos / 'a/x.png', photos / 'b/y.jpg'])
    entries = read(out)['predictions']
    for entry, prediction in zip((entries[0], entries[2]), expected, strict=True):
        written = np.asarray(Image.open(out / entry['map']))
        assert written.dtype == np.uint8 and np.array_equal(written, prediction.class_map)
        assert sum(entry['shares']) == pytest.approx(1, abs=1e-4)
        assert 'picture' not in entry


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--batch-size', '0'], 'Expected --batch-size and --frame-step of 1 or more'),
        (['--tile', '32', '--overlap', '4'], 'Tiles are for detection'),
    ],
)
def test_bad_options_are_errors(classifier, photos, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        infer.main([*classifier, str(photos), '--out', str(tmp_path / 'out'), *options])


def test_a_missing_input_is_an_error_before_the_model_is_built(tmp_path):
    with pytest.raises(UserError, match='There is no checkpoint missing.pth'):
        config, _ = make_checkpoint('*digits-32px.py', DIGITS, tmp_path)
        infer.main([config, 'missing.pth', 'missing.png', '--out', str(tmp_path / 'out')])
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(UserError, match='There is no file or folder missing.png'):
        infer.main([config, str(tmp_path / 'empty.pth'), 'missing.png', '--out', str(tmp_path)])
