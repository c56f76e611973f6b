"""``mmwf features`` on folders of pictures."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from toy_checkpoints import make_checkpoint

from mmwf.apis import extract_features, init_model
from mmwf.commands import features
from mmwf.errors import UserError

DIGITS = list('0123456789')
LAYERS = ['norm', '0', '-1']


@pytest.fixture
def classifier(tmp_path):
    return make_checkpoint('*digits-32px.py', DIGITS, tmp_path)


@pytest.fixture
def photos(tmp_path):
    """Three pictures, one of another size, and a file that is none."""
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for name, shape in (('a', (32, 32)), ('b', (24, 40)), ('c', (32, 32))):
        image = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f'photos/{name}.png')
    return [str(tmp_path / f'photos/{name}.png') for name in 'abc']


@pytest.fixture
def expected(classifier, photos):
    return extract_features(init_model(*classifier, 'cpu'), photos, LAYERS)


def test_npy_has_a_row_for_each_picture_and_the_layers_side_by_side(
    classifier, photos, expected, tmp_path
):
    out = tmp_path / 'out/f.npy'
    arguments = ['--layers', *LAYERS, '--out', str(out), '--batch-size', '2']
    features.main([*classifier, *photos, *arguments])
    array, record = np.load(out), json.loads(out.with_suffix('.json').read_text())
    assert array.shape == (3, 3 * 64) and array.dtype == np.float32
    assert record['layers'] == ['norm', '0', '7']
    assert [row['input'] for row in record['rows']] == photos
    for name, (first, last) in record['columns'].items():
        np.testing.assert_allclose(array[:, first:last], expected[name], atol=1e-5)


def test_safetensors_has_an_array_for_each_layer(classifier, photos, expected, tmp_path):
    out = tmp_path / 'f.safetensors'
    features.main([*classifier, *photos, '--layers', *LAYERS, '--out', str(out)])
    arrays = load_file(out)
    assert arrays.keys() == expected.keys() == {'norm', '0', '7'}
    for name, array in arrays.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


def test_tokens_of_any_size_fit_safetensors_and_those_of_one_size_npy(classifier, photos, tmp_path):
    out = tmp_path / 'f.safetensors'
    features.main([*classifier, *photos, '--tokens', '--out', str(out)])
    assert {name: array.shape for name, array in load_file(out).items()} == {
        'norm/0': (8, 8, 64), 'norm/1': (6, 10, 64), 'norm/2': (8, 8, 64)
    }  # fmt: skip
    out = tmp_path / 'f.npy'
    with pytest.raises(UserError, match=r'maps of 2 sizes.*FILE\.safetensors'):
        features.main([*classifier, *photos, '--tokens', '--out', str(out)])
    features.main([*classifier, *photos[::2], '--tokens', '--out', str(out)])
    assert np.load(out).shape == (2, 8, 8, 64)


def test_an_unreadable_picture_has_no_row_and_is_listed(classifier, photos, tmp_path):
    bad = tmp_path / 'photos/bad.png'
    bad.write_bytes(b'no image')
    out = tmp_path / 'f.npy'
    with pytest.raises(UserError, match='1 of 4 inputs could not be read'):
        features.main([*classifier, str(tmp_path / 'photos'), '--out', str(out)])
    record = json.loads(out.with_suffix('.json').read_text())
    assert np.load(out).shape == (3, 64) and [r['input'] for r in record['rows']] == photos
    assert [entry['input'] for entry in record['failed']] == [str(bad)]


def test_tokens_are_drawn_beside_the_pictures(classifier, photos, tmp_path):
    out = tmp_path / 'pca'
    command = [*classifier, *photos, '--out', str(tmp_path / 'f.npy'), '--pca', str(out)]
    features.main(command)
    drawn = np.asarray(Image.open(out / 'a.png'))
    assert drawn.shape == (480, 2 * 480 + 8, 3)
    tokens = drawn[:, -480:]
    blocks = tokens.reshape(8, 60, 8, 60, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()  # a colour for each of 8 x 8 tokens
    assert len(np.unique(blocks[:, 0, :, 0].reshape(-1, 3), axis=0)) > 30
    assert sorted(p.name for p in out.iterdir()) == ['a.png', 'b.png', 'c.png']


def test_another_format_is_an_error(classifier, photos):
    with pytest.raises(UserError, match=r'Expected --out FILE.npy or FILE.safetensors, got f.pt'):
        features.main([*classifier, *photos, '--out', 'f.pt'])
