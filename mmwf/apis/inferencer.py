"""Predictions for pictures without annotations."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.evaluation.predictions import Prediction, read_prediction

from .inference import init_model
from .loading import (
    ImagePipeline,
    OnError,
    Picture,
    fail,
    find_classes,
    in_batches,
    number_images,
)
from .tiles import TileMean, find_tiles, merge_objects

MERGE_THRESHOLD = 0.5  # overlap of two boxes, from different tiles, of one object

#: Tasks whose predictions for tiles can be merged.
TILED = ('detection', 'segmentation', 'depth')


def find_task(cfg: Config) -> str:
    """Returns the task of a config.

    Returns:
        ``'classification'``, ``'detection'`` (with or without masks), ``'panoptic'``,
        ``'segmentation'`` or ``'depth'``.

    Raises:
        UserError: If it is another one.
    """
    scope, kind = cfg.get('default_scope'), str(cfg.model.get('type'))
    if kind.endswith('GaussianDiffusion'):
        raise UserError(
            'A config of image generation has no predictions for pictures. To sample images: mmwf '
            'sample CONFIG CHECKPOINT --classes 0 1 --out DIR.'
        )
    if str((cfg.model.get('head') or {}).get('type')).endswith('KNNHead'):
        raise UserError(
            'Nearest neighbours need the training images: mmwf test. The features of pictures: '
            'mmwf features.'
        )
    if scope == 'mmpretrain':
        return 'classification'
    if scope == 'mmdet':
        panoptic = (cfg.model.get('test_cfg') or {}).get('panoptic_on', False)
        return 'panoptic' if panoptic else 'detection'
    if scope == 'mmseg':
        return 'depth' if kind.endswith('DepthEstimator') else 'segmentation'
    raise UserError(
        'Expected a config with default_scope mmpretrain, mmdet or mmseg, got '
        f'{scope} ({cfg.filename}).'
    )


class Inferencer:
    """A model that predicts what is in pictures.

    Args:
        config: A config of classification, detection, segmentation or depth, or its path.
        checkpoint: As in :func:`.init_model`. Default: random weights.
        device: As in :func:`.init_model`.
        batch_size: Largest number of pictures, or tiles, in a forward pass. Only those that have
            the same shape after the test pipeline are in a batch.
        score_thr: Smallest score of an object that is returned.
        tile: Side in pixels of the tiles that larger pictures are cut into; None for no tiles.
            Each goes through the test pipeline as a picture of its own. Objects are merged by
            class-wise non-maximum suppression, logits and depths are averaged.
        overlap: Pixels that neighbouring tiles have in common.

    Attributes:
        task: As :func:`find_task` returns it.
        model: The model.
        classes: The names and colours of its classes.

    Raises:
        UserError: If the config or the checkpoint does not fit, or a number is out of range.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | None = None,
        device: str | torch.device | None = None,
        *,
        batch_size: int = 1,
        score_thr: float = 0.3,
        tile: int | None = None,
        overlap: int = 128,
    ):
        cfg = config if isinstance(config, Config) else load_config(config)
        self.task = find_task(cfg)
        if batch_size < 1:
            raise UserError(f'Expected a batch size of 1 or more, got {batch_size}.')
        if tile is not None and not 0 <= overlap < tile:
            raise UserError(
                f'Expected an overlap from 0 to less than the tiles, got {overlap} of {tile}.'
            )
        if tile is not None and self.task not in TILED:
            raise UserError(
                f'Tiles are for {", ".join(TILED)}, got a config of {self.task}: a tile shows '
                'another picture than the whole.'
            )
        self.batch_size, self.score_thr = batch_size, score_thr
        self.tile, self.overlap = tile, overlap
        self.pipeline = ImagePipeline(cfg)
        self.model = init_model(cfg, checkpoint, device)
        self.classes = find_classes(cfg, self.model.dataset_meta)

    @torch.no_grad()
    def _forward(self, packed: list[dict], with_logits: bool = False) -> list[Prediction]:
        """Returns the predictions for inputs of one shape."""
        try:
            with warnings.catch_warnings():  # of mmdet's mask heads
                warnings.filterwarnings('ignore', message='To copy construct from a tensor')
                samples = self.model.test_step(pseudo_collate(packed))
        except torch.OutOfMemoryError as error:
            _, height, width = packed[0]['inputs'].shape
            raise UserError(
                f'The memory of the GPU is too small for {len(packed)} x {height} x {width} '
                'pixels. Use a smaller --batch-size, or --tile.'
            ) from error
        return [
            read_prediction(
                sample,
                num_classes=len(self.classes.names),
                score_thr=self.score_thr,
                with_logits=with_logits,
            )
            for sample in samples
        ]

    def _reduce(self, mean: np.ndarray) -> np.ndarray:
        """Maps the mean of the tiles, (C, height, width), to classes or depths."""
        if self.task == 'depth':
            return mean[0]
        if len(mean) == 1:  # mmseg's single class: its probability
            return (mean[0] > self.model.decode_head.threshold).astype(np.int64)
        return mean.argmax(0)

    def _predict_tiles(self, picture: Picture) -> Prediction:
        """Predicts a large picture tile by tile."""
        height, width = picture.image.shape[:2]
        tiles = find_tiles(height, width, self.tile, self.overlap)
        maps, objects = TileMean(width, self._reduce), []
        for i in range(0, len(tiles), self.batch_size):
            batch = tiles[i : i + self.batch_size]
            packed = [
                self.pipeline(
                    np.ascontiguousarray(picture.image[top:bottom, left:right]), picture.source.path
                )
                for top, left, bottom, right in batch
            ]
            predictions = self._forward(packed, with_logits=self.task == 'segmentation')
            for tile, prediction in zip(batch, predictions, strict=True):
                if self.task == 'detection':
                    objects.append(prediction)
                else:
                    logits = prediction.logits
                    maps.add(tile, prediction.depth[None] if logits is None else logits)
        if self.task == 'detection':
            return merge_objects(objects, tiles, height, width, MERGE_THRESHOLD)
        result = maps.result()
        return Prediction(**{'depth' if self.task == 'depth' else 'class_map': result})

    def stream(
        self, pictures: Iterable[Picture], on_error: OnError
    ) -> Iterator[tuple[Picture, Prediction]]:
        """Yields pictures with their predictions, in the order of the batches.

        Args:
            pictures: As :func:`.read_pictures` returns them.
            on_error: Is called with the source of a picture that cannot be processed, and the
                error.
        """
        if self.tile is None:
            for batch in in_batches(pictures, self.pipeline, self.batch_size, on_error):
                predictions = self._forward([packed for _, packed in batch])
                for (picture, _), prediction in zip(batch, predictions, strict=True):
                    yield picture, prediction
            return
        for picture in pictures:
            try:
                prediction = self._predict_tiles(picture)
            except UserError as error:
                on_error(picture.source, error)
            else:
                yield picture, prediction

    def __call__(self, images: Sequence[str | Path | np.ndarray]) -> list[Prediction]:
        """Predicts pictures.

        Args:
            images: Paths of image files, or arrays as OpenCV reads them, (height, width, 3), BGR,
                uint8.

        Returns:
            The predictions, in the order of the images.

        Raises:
            UserError: If an image cannot be read.
        """
        pictures = number_images(images, self.pipeline)
        found = {picture.frame: prediction for picture, prediction in self.stream(pictures, fail)}
        return [found[i] for i in range(len(images))]
