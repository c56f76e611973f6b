"""Throughput of the data pipeline, compared with timm's and torchvision's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmwf.analysis.data_throughput import (
    build_pipelines,
    config_pipeline,
    measure_pipelines,
    write_photographs,
)
from mmwf.datasets.augmentation import RandomErasing
from mmwf.engine.config import load_config
from mmwf.errors import UserError

ROOT = Path(__file__).parents[2]
TINY = ROOT / 'configs/classification/weightformer-tiny-p16_8xb256_in1k.py'
DETECTOR = next((ROOT / 'configs/detection').glob('*weightformer-tiny*.py'))


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp('photographs'), 5)


def outputs(cfg, path):
    """The image (3, H, W) that each pipeline makes of a file."""
    made = {name: pipeline(path) for name, pipeline in build_pipelines(cfg).items()}
    made['this config'] = made['this config']['inputs']
    return {name: torch.as_tensor(image) for name, image in made.items()}


def test_the_photographs_have_imagenets_size_and_differ(paths):
    images = [np.array(Image.open(path)) for path in paths]
    assert {image.shape for image in images} == {(375, 500, 3), (500, 375, 3)}
    assert len({image.tobytes() for image in images}) == 5


def test_every_pipeline_makes_an_image_of_the_configs_size(paths):
    cfg = load_config(TINY, {'train_dataloader.dataset.pipeline.1.scale': 96})
    images = outputs(cfg, paths[0])
    assert {tuple(image.shape) for image in images.values()} == {(3, 96, 96)}
    assert {name for name, image in images.items() if image.dtype != torch.uint8} == {'timm'}


def test_without_randomness_it_resizes_the_image_as_pillow_does(paths):
    cfg = load_config(TINY)
    load, crop, *_, pack = cfg.train_dataloader.dataset.pipeline
    crop.update(crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(4 / 3, 4 / 3))
    cfg.train_dataloader.dataset.pipeline = [load, crop, pack]
    own = config_pipeline(cfg)[0](paths[1])['inputs'].flip(0)  # BGR to RGB
    truth = np.array(Image.open(paths[1]).convert('RGB').resize((224, 224), Image.BICUBIC))
    # OpenCV and Pillow decode JPEG files slightly differently.
    assert (own.permute(1, 2, 0).int() - torch.from_numpy(truth).int()).abs().max() <= 3


def test_the_pipeline_of_the_config_is_the_one_that_runs(paths, monkeypatch):
    seen, erase = [], RandomErasing.transform

    def record(self, results):
        seen.append((self.erasing.erase_prob, results['img'].shape))
        return erase(self, results)

    monkeypatch.setattr(RandomErasing, 'transform', record)
    options = {'1.scale': 64, '4.erase_prob': 1.0}
    prefix = 'train_dataloader.dataset.pipeline.'
    cfg = load_config(TINY, {prefix + key: value for key, value in options.items()})
    pipeline, _ = config_pipeline(cfg)
    measure_pipelines({'this config': pipeline}, paths, turns=2)
    assert seen == 11 * [(1.0, (64, 64, 3))]  # one image to warm up, then two turns


def test_ratios_are_those_of_the_same_turn():
    # The machine is ten times slower in the second turn; each run is timed by two readings.
    durations = [1, 9, 1, 2, 10, 20, 1, 3]  # warm-up, then three turns of two pipelines
    readings = iter(np.cumsum([[0, duration] for duration in durations]).tolist())
    pipelines = {'first': lambda path: None, 'second': lambda path: None}
    first, second = measure_pipelines(pipelines, ['a', 'b'], 3, clock=lambda: next(readings))
    assert first == dict(name='first', images_per_second=2.0, ratio=1.0)  # 1 s for 2 images
    assert second['name'] == 'second' and second['ratio'] == 2.0
    assert second['images_per_second'] == pytest.approx(2 / 3)


def test_it_measures_one_thread_and_restores_their_number(paths):
    threads, inside = (torch.get_num_threads(), cv2.getNumThreads()), []
    pipelines = {
        'a': lambda path: inside.append((torch.get_num_threads(), cv2.getNumThreads(), path))
    }
    (row,) = measure_pipelines(pipelines, paths, turns=1)
    assert {entry[:2] for entry in inside} == {(1, 1)}
    assert [path for *_, path in inside[1:]] == paths
    assert row['images_per_second'] > 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads


def test_a_pipeline_without_equivalents_is_an_error():
    with pytest.raises(UserError, match='Expected a config that trains with .* got LoadImageFrom'):
        build_pipelines(load_config(DETECTOR))
