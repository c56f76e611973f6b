"""The pictures that a user names."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from PIL import Image

from mmwf.datasets.inputs import Names, Source, find_sources, read_source
from mmwf.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """A folder with two pictures of one name, and what is not a picture."""
    for name in ('a/x.png', 'b/x.png', 'b/Y.JPG'):
        (tmp_path / 'photos' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (6, 4), 'red').save(tmp_path / 'photos' / name)
    (tmp_path / 'photos/notes.txt').touch()
    (tmp_path / 'photos/c.png').mkdir()
    return tmp_path / 'photos'


def names(*inputs, **kwargs):
    return [source.name for source in find_sources(list(map(str, inputs)), **kwargs)]


def test_folders_are_searched_and_sub_folders_kept(photos):
    assert names(photos) == ['a/x.png', 'b/Y.JPG', 'b/x.png']


def test_hidden_files_of_a_folder_are_left_out(photos):
    for name in ('._x.png', '.cache/x.png'):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    assert names(photos) == ['a/x.png', 'b/Y.JPG', 'b/x.png']


def test_patterns_match_pictures_below_their_fixed_part(photos):
    assert names(photos / '**/*') == ['a/x.png', 'b/Y.JPG', 'b/x.png']
    assert names(photos / '*/x.*') == ['a/x.png', 'b/x.png']
    assert names(photos / 'b/*.JPG') == ['Y.JPG']


def test_a_file_that_is_named_twice_is_taken_once(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert names(photos / 'a/x.png', photos, 'a/../a/x.png') == ['x.png', 'b/Y.JPG', 'b/x.png']


def test_a_file_with_brackets_in_its_name_is_no_pattern(tmp_path):
    Image.new('RGB', (6, 4)).save(tmp_path / 'a[1].png')
    assert names(tmp_path / 'a[1].png') == ['a[1].png']


def test_the_output_of_an_earlier_run_is_left_out(photos):
    assert names(photos, exclude=photos / 'b') == ['a/x.png']
    with pytest.raises(UserError, match='the output folder'):
        names(photos / 'b', exclude=photos)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('missing.png', 'There is no file or folder .*missing.png'),
        ('photos/*.bmp', r'No image or video matches .*\*.bmp'),
        ('photos/c.png', 'There are no images .*in .*c.png'),
    ],
)
def test_an_input_without_pictures_is_an_error(photos, name, message):
    with pytest.raises(UserError, match=message):
        names(photos.parent / name)


@pytest.mark.parametrize(
    ('url', 'name'),
    [
        ('https://example.org/a/b.jpg?size=3', 'b.jpg'),
        ('https://example.org', 'picture'),
        ('https://example.org/a/..', 'picture'),
    ],
)
def test_an_address_is_named_after_its_file(url, name):
    assert names(url, url) == [name]


def test_no_name_is_given_out_twice():
    given = Names()
    assert [given.take(n) for n in ('a/x.png', 'a/X.png', 'a/x_2.png', 'a/x.png', 'b/x.png')] == [
        'a/x.png',
        'a/X_2.png',
        'a/x_2_2.png',
        'a/x_3.png',
        'b/x.png',
    ]


def load(path):
    return np.asarray(Image.open(path).convert('RGB'))[..., ::-1]


@pytest.fixture
def video(tmp_path):
    """Five frames, each brighter than the one before."""
    path = str(tmp_path / 'clip.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 5, (32, 16))
    for i in range(5):
        writer.write(np.full((16, 32, 3), 50 * i, np.uint8))
    writer.release()
    return Source(path, 'clip.avi')


@pytest.mark.parametrize(('step', 'expected'), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])])
def test_every_frame_of_a_video_is_a_picture(video, step, expected):
    frames = dict(read_source(video, load, step))
    assert list(frames) == expected
    for index, image in frames.items():
        assert image.shape == (16, 32, 3) and abs(image.mean() - 50 * index) < 8


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / 'clip.mp4').write_bytes(b'no video')
    source = Source(str(tmp_path / 'clip.mp4'), 'clip.mp4')
    with pytest.raises(UserError, match=r'Cannot read the video .*clip\.mp4'):
        list(read_source(source, load))


@pytest.fixture
def server(photos):
    handler = type('Quiet', (SimpleHTTPRequestHandler,), dict(log_message=lambda *args: None))
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(handler, directory=str(photos)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_a_picture_is_downloaded(server):
    (source,) = find_sources([f'{server}/a/x.png'])
    ((frame, image),) = read_source(source, load)
    assert frame is None and image.shape == (4, 6, 3)
    assert np.array_equal(image[0, 0], [0, 0, 255])


def test_an_address_that_cannot_be_read_is_named_as_given(server):
    (missing,) = find_sources([f'{server}/missing.png'])
    with pytest.raises(UserError, match=f'Cannot download {server}/missing.png: HTTP Error 404'):
        list(read_source(missing, load))

    def fail(path):
        raise UserError(f'Cannot read the image {path}.')

    (other,) = find_sources([f'{server}/notes.txt'])
    with pytest.raises(UserError, match=f'Cannot read the image {server}/notes.txt'):
        list(read_source(other, fail))
