"""The backbone of a config and its input images, for the analyses."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import cv2
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmwf.checkpoints import check_checkpoint, is_pretrained, load_pretrained_backbone
from mmwf.datasets.images import IMAGE_SUFFIXES, list_images
from mmwf.datasets.transforms import LoadImageFromFile
from mmwf.errors import UserError
from mmwf.libraries import import_task_library, quiet_build


def build_backbone(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Builds the backbone of a config, on the GPU if there is one.

    Args:
        cfg: A config of any library. An ``init_cfg`` of type Pretrained in it is ignored.
        checkpoint: As in :func:`mmwf.checkpoints.read_checkpoint`. By default the weights are
            random, with a fixed seed.

    Raises:
        UserError: If the model has no backbone, or if the checkpoint is missing or does not fit.
    """
    if checkpoint:
        check_checkpoint(checkpoint)
    import_task_library(cfg)
    model_cfg = deepcopy(cfg.model)
    if 'backbone' not in model_cfg:
        raise UserError(f'Expected a config whose model has a backbone, got {cfg.filename}.')
    for part in (model_cfg, model_cfg.backbone):
        if is_pretrained(part.get('init_cfg')):
            part.pop('init_cfg')
    torch.manual_seed(0)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # MMEngine logs the initialisation of every parameter
    scope = cfg.get('default_scope') or 'mmengine'
    try:
        with quiet_build(), DefaultScope.overwrite_default_scope(scope):
            model = MODELS.build(model_cfg)
            if checkpoint is None:
                model.init_weights()
    finally:
        logger.setLevel(level)
    backbone = model.backbone
    if checkpoint:
        load_pretrained_backbone(backbone, checkpoint)
    return backbone.to('cuda' if torch.cuda.is_available() else 'cpu')


def input_shape(cfg: Config) -> tuple[int, int]:
    """Returns height and width of the training crops of a config, by default 224 x 224."""
    for transform in reversed(cfg.get('train_pipeline') or []):
        if 'Crop' in transform['type']:
            size = transform.get('crop_size') or transform.get('scale')
            return tuple(size) if isinstance(size, Sequence) else (size, size)
    return 224, 224


class BackboneInputs(Sequence):
    """The images of a folder as inputs of a backbone, in batches of one.

    Each image is resized as a whole (bilinear) and normalised as in the config. The config's test
    pipeline and preprocessor are not used, since they may crop, pad or require annotations.

    Args:
        root: Folder of images; subfolders are searched too.
        cfg: The config.
        shape: Height and width of the inputs.
        max_images: Largest number of images, evenly spaced.

    Raises:
        UserError: If there is no such folder or no image in it, or if ``shape`` or ``max_images``
            is not positive.
    """

    def __init__(self, root: str, cfg: Config, shape: tuple[int, int], max_images: int):
        if min(max_images, *shape) < 1:
            raise UserError(
                f'Expected at least one image and one pixel, got {max_images} images of '
                f'{shape[0]} x {shape[1]} pixels.'
            )
        if not Path(root).is_dir():
            raise UserError(f'There is no folder {root} (looked at {Path(root).absolute()}).')
        paths = list_images(root)
        if not paths:
            raise UserError(f'There are no images ({", ".join(IMAGE_SUFFIXES)}) in {root}.')
        number = min(max_images, len(paths))
        self.paths = [paths[i * len(paths) // number] for i in range(number)]
        self.shape = shape
        settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        self.load = LoadImageFromFile()
        self.normalize = ImgDataPreprocessor(
            mean=settings.get('mean') or [0],
            std=settings.get('std') or [1],
            # mmpretrain has another name for it than mmdet and mmseg.
            bgr_to_rgb=settings.get('to_rgb') or settings.get('bgr_to_rgb') or False,
        ).to('cuda' if torch.cuda.is_available() else 'cpu')

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Reads an image, (1, 3, height, width).

        Raises:
            UserError: If the file is damaged.
        """
        image = self.load(dict(img_path=str(self.paths[index])))['img']
        image = torch.from_numpy(cv2.resize(image, self.shape[::-1])).permute(2, 0, 1)
        return self.normalize(dict(inputs=[image]))['inputs']
