"""Reading pictures as the test pipeline of a config does, without annotations."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import cv2
import mmengine
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from mmwf.datasets.inputs import Source, read_source
from mmwf.errors import UserError
from mmwf.evaluation.predictions import Classes
from mmwf.libraries import import_task_library

MAX_SHAPES = 8  # shapes of pictures that wait for others of their shape


def _test_dataset(cfg: Config) -> dict:
    """Returns the settings of the test dataset, without wrappers.

    Raises:
        UserError: If it has no pipeline that reads images.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
    while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    if not dataset.get('pipeline'):
        raise UserError(
            f'Expected a config whose test_dataloader has a pipeline, got {cfg.filename}. Images '
            'of a config of configs/generation are sampled: mmwf sample.'
        )
    return dataset


def _name(step: dict) -> str:
    """Returns the name of a transform without its scope."""
    kind = step['type']
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


class ImagePipeline:
    """The test pipeline of a config for pictures that have no annotations.

    Args:
        cfg: A config of classification, detection, segmentation or depth.

    Raises:
        UserError: If its test pipeline does not read image files.
    """

    def __init__(self, cfg: Config):
        import_task_library(cfg)
        steps = deepcopy(_test_dataset(cfg)['pipeline'])
        steps = [step for step in steps if 'Annotation' not in _name(step)]
        names = [_name(step) for step in steps]
        if names[:1] != ['LoadImageFromFile']:
            raise UserError(
                f'Expected a test pipeline that begins with LoadImageFromFile, got {names}.'
            )
        scope = cfg.get('default_scope') or 'mmengine'
        with DefaultScope.overwrite_default_scope(scope):
            self._load = TRANSFORMS.build(steps[0])
            self._transform = Compose(steps[1:])

    def load(self, path: str) -> np.ndarray:
        """Reads a picture, (height, width, 3), BGR.

        Raises:
            UserError: If the file cannot be read as an image.
        """
        return self._load(dict(img_path=path))['img']

    def __call__(self, image: np.ndarray, path: str = '') -> dict:
        """Prepares a picture for a model.

        Args:
            image: As :meth:`load` returns it.
            path: Its file, for messages.

        Returns:
            ``inputs``, (3, height, width), and ``data_samples``.

        Raises:
            UserError: If it has no pixels, or too few to be resized.
        """
        shape = image.shape[:2]
        results = dict(img=image, img_path=path, img_id=0, img_shape=shape, ori_shape=shape)
        try:
            return self._transform(results)
        except (cv2.error, ZeroDivisionError) as error:
            reason = ' '.join(str(error).split())
            raise UserError(
                f'Cannot resize the image {path} of {shape[1]} x {shape[0]} pixels: {reason}.'
            ) from error


def find_classes(cfg: Config, dataset_meta: dict | None) -> Classes:
    """Returns the classes of a model.

    Args:
        cfg: Its config.
        dataset_meta: What its checkpoint says about them; by default what the config says, or the
            dataset that it names.
    """
    dataset = _test_dataset(cfg)
    scope = cfg.get('default_scope') or 'mmengine'
    with DATASETS.switch_scope_and_registry(scope) as registry:
        meta = dict(getattr(registry.get(dataset['type']), 'METAINFO', None) or {})
    meta.update(dataset.get('metainfo') or {})
    meta.update({key: value for key, value in (dataset_meta or {}).items() if value})
    if isinstance(meta.get('classes'), str):
        meta['classes'] = mmengine.list_from_file(meta['classes'])
    return Classes.from_meta(meta)


@dataclass
class Picture:
    """A picture that has been read.

    Attributes:
        source: Where it comes from.
        frame: Its index in a video, else None.
        image: (height, width, 3), BGR.
    """

    source: Source
    frame: int | None
    image: np.ndarray


def fail(source: Source, error: UserError) -> None:
    """Raises the error; as ``on_error``, where each picture must be read."""
    raise error


def number_images(
    images: Sequence[str | Path | np.ndarray], pipeline: ImagePipeline
) -> Iterator[Picture]:
    """Reads images, each a file or an array (height, width, 3), BGR; numbers them as frames.

    Raises:
        UserError: If an image cannot be read, or ``images`` is one image, not a list.
    """
    if isinstance(images, (str, Path)) or getattr(images, 'ndim', 4) != 4:
        raise UserError('Expected a list of images, got one. Put it into a list: [image].')
    for i, image in enumerate(images):
        path = '' if isinstance(image, np.ndarray) else str(image)
        yield Picture(Source(path, path), i, pipeline.load(path) if path else image)


#: What is called with a source that cannot be read, and the error.
OnError = Callable[[Source, UserError], None]


def read_pictures(
    sources: Iterable[Source], pipeline: ImagePipeline, on_error: OnError, frame_step: int = 1
) -> Iterator[Picture]:
    """Reads pictures and frames of videos; of those that cannot be read, ``on_error`` is told."""
    for source in sources:
        try:
            for frame, image in read_source(source, pipeline.load, frame_step):
                yield Picture(source, frame, image)
        except UserError as error:
            on_error(source, error)


def in_batches(
    pictures: Iterable[Picture], pipeline: ImagePipeline, batch_size: int, on_error: OnError
) -> Iterator[list[tuple[Picture, dict]]]:
    """Prepares pictures for a model and collects them in batches.

    Pictures in a batch have the same shape after the pipeline, so that none is padded because of
    another: the weights that WeightFormer predicts depend on all pixels.

    Yields:
        Pictures with what :class:`ImagePipeline` makes of them. Their order is that of the batches.
    """
    waiting: dict[Sequence[int], list] = {}
    for picture in pictures:
        try:
            packed = pipeline(picture.image, picture.source.path)
        except UserError as error:
            on_error(picture.source, error)
            continue
        shape = tuple(packed['inputs'].shape)
        group = waiting.setdefault(shape, [])
        group.append((picture, packed))
        if len(group) == batch_size:
            yield waiting.pop(shape)
        elif len(waiting) > MAX_SHAPES:
            yield waiting.pop(next(iter(waiting)))  # the oldest
    yield from waiting.values()
