import io
import json
import os
import tarfile

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmwf.datasets import tar_images
from mmwf.datasets.checks import check_datasets
from mmwf.datasets.tar_images import TarImages
from mmwf.errors import UserError
from mmwf.libraries import import_task_library

NAMES = ('cat.tar#1', 'dog')  # as in addresses of images


def png(seed):
    image = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return image, cv2.imencode('.png', image)[1].tobytes()


def tar(members):
    """The bytes of an archive with these members, (name, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def image_members(seeds, name='{}.png'):
    return [(name.format(seed), png(seed)[1]) for seed in seeds]


def webdataset(root):
    for shard, seeds in enumerate(((0, 1), (2, 3))):
        members = [*image_members(seeds), *((f'{s}.cls', str(s % 2).encode()) for s in seeds)]
        (root / f'a-{shard}.tar').write_bytes(tar(members))
    return dict(shards='a-*.tar')


def folders(root):
    members = [
        m for i, name in enumerate(NAMES) for m in image_members((i, i + 2), name + '/{}.png')
    ]
    (root / 'a.tar').write_bytes(tar(members))
    return dict(shards='a.tar')


def inner_archives(root):
    """The form of ILSVRC2012_img_train.tar."""
    members = [(f'{name}.tar', tar(image_members((i, i + 2)))) for i, name in enumerate(NAMES)]
    (root / 'a.tar').write_bytes(tar([*members, ('readme.txt', b'no image')]))
    return dict(shards=['a.tar'])


def annotations(root):
    """The form of ILSVRC2012_img_val.tar."""
    (root / 'a.tar').write_bytes(tar(image_members(range(4))))
    (root / 'a.txt').write_text(''.join(f'{seed}.png {seed % 2}\n' for seed in range(4)))
    return dict(shards='a.tar', ann_file='a.txt')


@pytest.mark.parametrize('write', [webdataset, folders, inner_archives, annotations])
@pytest.mark.parametrize('indexed', [False, True])
def test_images_and_labels_are_those_of_the_archive(tmp_path, monkeypatch, write, indexed):
    settings = dict(write(tmp_path), data_root=str(tmp_path))
    if indexed:  # the second time, the archive is not listed again
        TarImages(**settings)
        monkeypatch.setattr(tarfile, 'open', None)
    dataset = TarImages(pipeline=[dict(type='LoadImageFromFile')], **settings)
    found = {(item['img'].tobytes(), item['gt_label']) for item in dataset}
    assert found == {(png(seed)[0].tobytes(), seed % 2) for seed in range(4)}
    assert {folders: NAMES, inner_archives: NAMES}.get(write) == dataset.CLASSES
    assert sorted(dataset.get_gt_labels()) == [0, 0, 1, 1]


def test_a_changed_archive_is_listed_again(tmp_path):
    settings = dict(folders(tmp_path), data_root=str(tmp_path))
    assert len(TarImages(**settings)) == 4
    (tmp_path / 'a.tar').write_bytes(tar(image_members((5,), 'bird/{}.png')))
    assert TarImages(**settings).CLASSES == ('bird',)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    settings = dict(folders(tmp_path), data_root=str(tmp_path))

    def write(path, content):
        raise UserError('read-only')

    monkeypatch.setattr(tar_images, 'write_text', write)
    assert len(TarImages(**settings)) == 4
    assert len(TarImages(**settings)) == 4


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        (None, 'There is no archive a.tar in'),
        (b'no archive', 'Cannot list the images in .*a.tar.*Expected an uncompressed tar archive'),
        (tar(image_members((0,), 'cat/{}.png'))[:700], 'Cannot list the images in .*a.tar'),
        (tar([('a.txt', b'')]), 'There are no images in .*a.tar'),
        (tar(image_members((0,))), '0.png has no label. Expected 0.cls beside it'),
        (tar([*image_members((0,)), ('0.cls', b'cat')]), "invalid literal.*'cat'"),
        (
            tar([*image_members((0,), 'cat/{}.png'), *image_members((1,)), ('1.cls', b'0')]),
            '1.png has no label',
        ),
    ],
)
def test_archives_without_labelled_images_are_refused(tmp_path, content, match):
    if content is not None:
        (tmp_path / 'a.tar').write_bytes(content)
    with pytest.raises(UserError, match=match):
        TarImages('a.tar', data_root=str(tmp_path))


def test_bad_lines_of_annotations_and_images_without_one_are_named(tmp_path):
    annotations(tmp_path)
    settings = dict(shards='a.tar', ann_file='a.txt', data_root=str(tmp_path))
    (tmp_path / 'a.txt').write_text('0.png 0\n1.png\n')
    with pytest.raises(UserError, match="a.txt, line 2: expected NAME LABEL, got '1.png'"):
        TarImages(**settings)
    (tmp_path / 'a.txt').write_text('0.png 0\n')
    with pytest.raises(UserError, match='1.png has no label'):
        TarImages(**settings)


def test_an_archive_that_shrank_is_named(tmp_path):
    dataset = TarImages(
        data_root=str(tmp_path), pipeline=[dict(type='LoadImageFromFile')], **folders(tmp_path)
    )
    os.truncate(tmp_path / 'a.tar', 600)
    with pytest.raises(UserError, match='a.tar ends after 88 of the .* bytes at 512'):
        dataset[0]


def test_a_damaged_index_is_named(tmp_path):
    folders(tmp_path)
    (tmp_path / 'a.tar.index.json').write_text(json.dumps([]))
    with pytest.raises(UserError, match='delete a.tar.index.json if that is damaged'):
        TarImages('a.tar', data_root=str(tmp_path))


def test_the_check_before_training_reads_the_images(tmp_path):
    path = 'configs/classification/weightformer-tiny-p16_8xb256_in1k-shards.py'
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    init_default_scope('mmpretrain')
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(tmp_path), shards='a-*.tar')
    webdataset(tmp_path)
    cfg.model.head.num_classes = 2
    assert '4 images, 4 of them read' in check_datasets(cfg, ('train_dataloader',))[0]
    packed = DATASETS.build(dataset)[1]
    assert packed['inputs'].shape == (3, 224, 224) and packed['data_samples'].gt_label.item() == 1
