import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mmwf.datasets.images import SquareImages, center_crop, list_images
from mmwf.datasets.transforms import LoadImageFromFile
from mmwf.errors import UserError


def test_images_are_found_in_sub_folders_in_order(tmp_path):
    for name in ('b/2.png', 'b/1.JPEG', 'a/x/0.jpg', 'a/notes.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert names == ['a/x/0.jpg', 'b/1.JPEG', 'b/2.png']


def test_the_crop_is_the_middle_square():
    columns = np.tile(np.arange(60, dtype=np.uint8), (20, 1))
    assert np.array_equal(np.array(center_crop(Image.fromarray(columns), 20)), columns[:, 20:40])


@pytest.mark.parametrize('width, height', [(7, 31), (64, 33), (16, 16), (9, 10), (501, 375)])
def test_the_crop_has_the_requested_size(width, height):
    assert center_crop(Image.new('RGB', (width, height)), 16).size == (16, 16)


def test_a_large_image_is_averaged_not_sampled():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    small = np.array(center_crop(Image.fromarray(noise), 16)).astype(float)
    boxes = noise.reshape(16, 8, 16, 8).mean((1, 3))
    assert np.abs(small - boxes).max() <= 3  # three halvings of two sides, each rounded


def test_grey_images_become_rgb(tmp_path):
    Image.new('L', (8, 8), 77).save(tmp_path / 'a.png')
    (image,) = SquareImages([tmp_path / 'a.png'], 8)
    assert torch.equal(image, torch.full((3, 8, 8), 77, dtype=torch.uint8))


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n broken'])
def test_an_unreadable_image_is_named(tmp_path, content):
    (tmp_path / 'broken.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'Cannot read the image .*broken\.png'):
        SquareImages([tmp_path / 'broken.png'], 8)[0]


def write_header(path, width, height):
    """Writes a PNG of a few bytes that claims to have this size."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b'')]
    data = b'\x89PNG\r\n\x1a\n'
    for kind, content in chunks:
        checksum = struct.pack('>I', zlib.crc32(kind + content))
        data += struct.pack('>I', len(content)) + kind + content + checksum
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('side', [10_000, 20_000, 2**31 - 1])
def test_a_file_that_would_fill_the_memory_is_not_decoded(tmp_path, side):
    path = write_header(tmp_path / 'bomb.png', side, side)
    message = r'The image .*bomb\.png is too large: .* Expected at most 89,478,485 pixels'
    with pytest.raises(UserError, match=message):
        SquareImages([path], 8)[0]
    with pytest.raises(UserError, match=message):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_the_limit_of_an_image_can_be_set(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (20, 30)).save(path)
    results = dict(img_path=str(path))
    assert LoadImageFromFile(max_pixels=600)(results)['img'].shape == (30, 20, 3)
    with pytest.raises(UserError, match='20 x 30. Expected at most 599 pixels'):
        LoadImageFromFile(max_pixels=599)(results)
