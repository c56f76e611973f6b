"""Images per second and core of a training pipeline, and of its equivalents in other libraries.

The pipelines run in turns on the same JPEG files, in one process with one thread. CPU time is
measured, so that neither other load on the machine nor the disk counts.
"""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmwf.errors import UserError
from mmwf.libraries import import_task_library

#: A function that reads an image file and augments the image.
Pipeline = Callable[[str], object]
#: The transforms of a config for which the other libraries' equivalents are built.
KNOWN = {
    'LoadImageFromFile',
    'PackInputs',
    'RandAugment',
    'RandomErasing',
    'RandomFlip',
    'RandomResizedCrop',
}


def config_pipeline(cfg: Config) -> tuple[Pipeline, dict[str, dict]]:
    """Builds the training pipeline of a classification config.

    Args:
        cfg: The config.

    Returns:
        The pipeline, and its settings: the arguments of each transform by its name without scope.

    Raises:
        UserError: If the pipeline is not one for which equivalents can be built.
    """
    transforms = cfg.get('train_dataloader', {}).get('dataset', {}).get('pipeline', [])
    settings = {transform['type'].split('.')[-1]: transform for transform in transforms}
    policies = settings.get('RandAugment', {}).get('policies', 'timm_increasing')
    is_known = settings.keys() <= KNOWN and policies == 'timm_increasing'
    if not is_known or not {'LoadImageFromFile', 'RandomResizedCrop'} <= settings.keys():
        raise UserError(
            'Expected a config that trains with LoadImageFromFile, RandomResizedCrop and at most '
            f'{", ".join(sorted(KNOWN - {"LoadImageFromFile", "RandomResizedCrop"}))} (with the '
            f'policies timm_increasing), got {", ".join(settings) or "no pipeline"}.'
        )
    import_task_library(cfg)
    init_default_scope(cfg.get('default_scope'))
    pipeline = Compose(transforms)
    return lambda path: pipeline(dict(img_path=path, gt_label=0)), settings


def _read(path: str) -> Image.Image:
    with Image.open(path) as file:
        return file.convert('RGB')


def timm_pipeline(settings: dict[str, dict], on_gpu: bool) -> Pipeline:
    """Builds timm's pipeline for these settings.

    Args:
        settings: As :func:`config_pipeline` returns them.
        on_gpu: Whether erasing and normalisation are left to the GPU, as timm's prefetcher does;
            otherwise they are part of the pipeline.
    """
    from timm.data import create_transform

    rand_augment = settings.get('RandAugment')
    transform = create_transform(
        settings['RandomResizedCrop']['scale'],
        is_training=True,
        hflip=settings.get('RandomFlip', {}).get('prob', 0.0),
        color_jitter=0.0,
        auto_augment=rand_augment
        and 'rand-m{magnitude_level}-mstd{magnitude_std}-inc1'.format(**rand_augment),
        interpolation=settings['RandomResizedCrop'].get('interpolation', 'bilinear'),
        re_prob=settings.get('RandomErasing', {}).get('erase_prob', 0.0),
        re_mode='pixel',
        use_prefetcher=on_gpu,
    )
    return lambda path: transform(_read(path))


def torchvision_pipeline(settings: dict[str, dict], on_tensors: bool) -> Pipeline:
    """Builds the pipeline of torchvision's transforms v2 for these settings, to uint8 images.

    Two differences remain: torchvision's RandAugment applies each chosen operation always, not
    with probability 0.5, and on tensors it interpolates bilinearly.

    Args:
        settings: As :func:`config_pipeline` returns them.
        on_tensors: Whether images are decoded to tensors; otherwise to Pillow's images, which
            become tensors at the end.
    """
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import InterpolationMode, v2

    crop = settings['RandomResizedCrop']
    transforms = [
        v2.RandomResizedCrop(
            crop['scale'], interpolation=InterpolationMode(crop.get('interpolation', 'bilinear'))
        ),
        v2.RandomHorizontalFlip(settings.get('RandomFlip', {}).get('prob', 0.0)),
    ]
    if 'RandAugment' in settings:
        mode = InterpolationMode.BILINEAR if on_tensors else InterpolationMode.BICUBIC
        magnitude = round(settings['RandAugment']['magnitude_level'] / 10 * 30)  # of 31 bins
        transforms.append(v2.RandAugment(2, magnitude, interpolation=mode))
    if not on_tensors:
        transforms.append(v2.PILToTensor())
    erase_prob = settings.get('RandomErasing', {}).get('erase_prob', 0.0)
    transforms.append(v2.RandomErasing(erase_prob, value=128))
    transform = v2.Compose(transforms)
    if on_tensors:
        return lambda path: transform(decode_image(path, ImageReadMode.RGB))
    return lambda path: transform(_read(path))


def build_pipelines(cfg: Config) -> dict[str, Pipeline]:
    """Builds the training pipeline of a config (first) and its equivalents, by name."""
    own, settings = config_pipeline(cfg)
    return {
        'this config': own,
        'timm': timm_pipeline(settings, on_gpu=False),
        'timm, erasing on the GPU': timm_pipeline(settings, on_gpu=True),
        'torchvision v2, Pillow': torchvision_pipeline(settings, on_tensors=False),
        'torchvision v2, tensors': torchvision_pipeline(settings, on_tensors=True),
    }


def measure_pipelines(
    pipelines: dict[str, Pipeline],
    paths: list[str],
    turns: int,
    clock: Callable[[], float] = time.process_time,
) -> list[dict]:
    """Measures the pipelines in turns, after a warm-up on a tenth of the files.

    Args:
        pipelines: By name; the first one is compared with the others.
        paths: The image files.
        turns: How often each pipeline runs on all files.
        clock: Returns seconds.

    Returns:
        For each pipeline ``name``, ``images_per_second`` (the median over the turns) and
        ``ratio``, the speed of the first pipeline relative to this one (the median of the ratios
        within each turn).
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        seconds = {name: [] for name in pipelines}
        for turn in range(-1, turns):
            files = paths if turn >= 0 else paths[: len(paths) // 10 + 1]
            for name, pipeline in pipelines.items():
                random.seed(turn + 1)
                np.random.seed(turn + 1)
                torch.manual_seed(turn + 1)
                start = clock()
                for path in files:
                    pipeline(path)
                elapsed = clock() - start
                if turn >= 0:
                    seconds[name].append(elapsed)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    first = next(iter(seconds.values()))
    return [
        dict(
            name=name,
            images_per_second=len(paths) / statistics.median(own),
            ratio=statistics.median(b / a for a, b in zip(first, own, strict=True)),
        )
        for name, own in seconds.items()
    ]


def write_photographs(folder: str | Path, num: int) -> list[str]:
    """Writes JPEG files of ImageNet's typical size, 500 x 375 or 375 x 500, at quality 90.

    They are random crops of half to full height of photographs that come with scikit-learn and
    scikit-image.

    Args:
        folder: Where to write.
        num: Number of files.

    Returns:
        Their paths.
    """
    import skimage.data
    from sklearn.datasets import load_sample_images

    photographs = [
        *load_sample_images().images,
        skimage.data.astronaut(),
        skimage.data.chelsea(),
        skimage.data.coffee(),
    ]
    generator = np.random.default_rng(0)
    paths = []
    for index in range(num):
        image = Image.fromarray(photographs[index % len(photographs)])
        width, height = (500, 375) if index % 4 else (375, 500)
        largest = min(image.width / width, image.height / height)
        scale = largest * generator.uniform(0.5, 1)
        left = generator.uniform(0, image.width - scale * width)
        top = generator.uniform(0, image.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        paths.append(str(Path(folder) / f'{index}.jpg'))
        image.resize((width, height), Image.Resampling.BICUBIC, box).save(paths[-1], quality=90)
    return paths
