"""The depth config at toy size with toy data, for tests on a CPU."""

from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from toy import IMAGE_SIZE, WIDTH

FULL_SIZE = 480


def write_nyu(root: Path, num_images: int = 3) -> Path:
    """Writes images of 64 x 96 whose brightness is the depth, in the layout of NYUDataset.

    Args:
        root: Output folder for ``{images,annotations}/{train,test}/*``.
        num_images: Number of images in each split.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(num_images):
            coarse = rng.uniform(1000, 6000, (4, 6)).astype(np.float32)  # millimetres
            depth = cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_LINEAR)
            image = np.repeat((depth / 6000 * 255).astype(np.uint8)[..., None], 3, axis=2)
            depth[:5] = 0  # not measured
            name = f'kitchen_{i:04d}'
            cv2.imwrite(str(root / f'images/{split}/{name}.jpg'), image)
            cv2.imwrite(str(root / f'annotations/{split}/{name}.png'), depth.astype(np.uint16))
    return root


def shrink_depth(cfg: Config, data_root: Path) -> Config:
    """Shrinks the config of ``configs/depth`` and applies it to the data of :func:`write_nyu`.

    The backbone is not pretrained.

    Args:
        cfg: The config, changed in place.
        data_root: Folder of the data.

    Returns:
        ``cfg``.
    """
    size, model = (IMAGE_SIZE, IMAGE_SIZE), cfg.model
    model.backbone.init_cfg = None
    model.backbone.arch = dict(embed_dims=WIDTH, depth=4, mlp_ratio=2)
    model.backbone.out_indices = (0, 1, 2, 3)
    model.data_preprocessor.size = model.data_preprocessor.test_cfg.size = size
    model.test_cfg.update(crop_size=size, stride=(21, 21))
    model.neck.embed_dim = WIDTH
    model.decode_head.update(in_channels=[WIDTH] * 4, feature_dim=WIDTH, embed_dim=WIDTH // 8)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
        loader.dataset.data_root = str(data_root)
        for step in loader.dataset.pipeline:
            for key in {'scale', 'crop_size'} & set(step):
                step[key] = tuple(value * IMAGE_SIZE // FULL_SIZE for value in step[key])
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    return cfg
