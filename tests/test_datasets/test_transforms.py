import cv2
import numpy as np
import pytest

from mmwf.datasets.transforms import LoadImageFromFile


@pytest.mark.parametrize('content', [None, b'', b'no image', b'\x89PNG\r\n\x1a\n broken'])
def test_an_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / 'broken.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r'Cannot read the image .*broken\.png'):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_a_readable_image_is_loaded(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    assert np.array_equal(LoadImageFromFile()(dict(img_path=str(tmp_path / 'a.png')))['img'], image)
