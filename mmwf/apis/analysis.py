"""What the analysis tools share: a backbone, and images to show it."""

import argparse
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmwf.checkpoint import load_pretrained_backbone
from mmwf.datasets.images import IMAGE_SUFFIXES, list_images

from . import environment
from .environment import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what the backbone is and which images it gets to see."""
    parser.add_argument('--images', required=True, metavar='DIR', help='folder of images')
    parser.add_argument(
        '--num-images', type=int, default=50, metavar='N', help='take N of them, evenly (50)'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="what they are resized to (the size of the config's crops in training, or 224 224)",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py'
    )


def read_arguments(args: argparse.Namespace) -> tuple[Config, 'BackboneInputs', Path]:
    """Reads the config and finds the images and the picture to write.

    Args:
        args: With ``config``, ``out`` and the options of :func:`add_arguments`.

    Raises:
        UserError: If one of them is missing, or if the picture is no PNG.
    """
    out = Path(args.out)
    if out.suffix != '.png':
        raise UserError(f'Expected --out FILE.png, got {out}.')
    cfg = environment.load_config(args.config, args.cfg_options)
    shape = tuple(args.shape or input_shape(cfg))
    return cfg, BackboneInputs(args.images, cfg, shape, args.num_images), out


def build_backbone(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Builds the backbone of a config on the GPU, or on the CPU if there is none.

    Args:
        cfg: A config of any of the libraries. Its ``init_cfg`` of type Pretrained is not used.
        checkpoint: As in :func:`mmwf.checkpoint.read_checkpoint`; without it, the weights are
            random, and each time the same.

    Raises:
        UserError: If the model has no backbone, or if the checkpoint is missing or does not fit.
    """
    if checkpoint:
        environment.check_checkpoint(checkpoint)
    environment.import_task_library(cfg)
    model_cfg = deepcopy(cfg.model)
    if 'backbone' not in model_cfg:
        raise UserError(f'Expected a config whose model has a backbone; {cfg.filename} has none.')
    for part in (model_cfg, model_cfg.backbone):
        if isinstance(part.get('init_cfg'), Mapping) and part.init_cfg.get('type') == 'Pretrained':
            part.pop('init_cfg')
    torch.manual_seed(0)
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')  # MMEngine prints how it initialised each parameter
    scope = cfg.get('default_scope') or 'mmengine'
    with environment.quiet_build(), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(model_cfg)
        if checkpoint is None:
            model.init_weights()
    logger.setLevel('INFO')
    backbone = model.backbone
    if checkpoint:
        load_pretrained_backbone(backbone, checkpoint)
    return backbone.to('cuda' if torch.cuda.is_available() else 'cpu')


def input_shape(cfg: Config) -> tuple[int, int]:
    """Returns height and width of the crops that a config trains on, or 224 x 224."""
    for transform in reversed(cfg.get('train_pipeline') or []):
        if 'Crop' in transform['type']:
            size = transform.get('crop_size') or transform.get('scale')
            return tuple(size) if isinstance(size, Sequence) else (size, size)
    return 224, 224


class BackboneInputs(Sequence):
    """The images of a folder as batches of one, ready for the backbone of a config.

    Each one is resized as a whole, bilinearly, and normalised as the config says.

    Args:
        root: The folder; images in folders below count too.
        cfg: The config.
        shape: Height and width.
        max_images: How many to take, evenly from all.

    Raises:
        UserError: If there is no such folder, or no image in it, or if none shall be taken.
    """

    def __init__(self, root: str, cfg: Config, shape: tuple[int, int], max_images: int):
        if min(max_images, *shape) < 1:
            raise UserError(
                f'Expected at least one image and one pixel, got {max_images} images of '
                f'{shape[0]} x {shape[1]}.'
            )
        if not Path(root).is_dir():
            raise UserError(f'There is no folder {root} (looked at {Path(root).absolute()}).')
        paths = list_images(root)
        if not paths:
            raise UserError(f'There is no image ({", ".join(IMAGE_SUFFIXES)}) in {root} or below.')
        number = min(max_images, len(paths))
        self.paths = [paths[i * len(paths) // number] for i in range(number)]
        self.shape = shape
        settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        # mmpretrain has another name for it than mmdet and mmseg.
        self.to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb') or False
        self.mean = np.float32(settings.get('mean') or 0)
        self.std = np.float32(settings.get('std') or 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Reads an image, (1, 3, height, width).

        Raises:
            UserError: If the file is damaged.
        """
        image = cv2.imread(str(self.paths[index]))
        if image is None:
            raise UserError(
                f'Cannot read the image {self.paths[index]}. Repair or remove the file.'
            )
        image = cv2.resize(image, self.shape[::-1])
        if self.to_rgb:
            image = image[..., ::-1]
        image = torch.from_numpy((image - self.mean) / self.std).permute(2, 0, 1)[None]
        return image.to('cuda' if torch.cuda.is_available() else 'cpu')
