"""Checks of data for depth estimation with mmseg."""

from pathlib import Path

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.registry import DATASETS

from mmwf.datasets.images import check_pixels
from mmwf.errors import UserError

from .wrappers import unwrap


def _read_depth(dataset, info: dict) -> np.ndarray:
    """Reads the depth map of one image as the pipeline does, (height, width), in metres."""
    for transform in dataset.pipeline.transforms:
        if isinstance(transform, (LoadImageFromFile, LoadDepthAnnotation)):
            try:
                check_pixels(info['depth_map_path'])
                info = transform(info)
            except UserError:
                raise
            except (OSError, AttributeError, ValueError) as error:  # raised on damaged files
                raise UserError(f'Cannot read {info["depth_map_path"]}: {error}') from error
    depth, shape = info['gt_depth_map'], info['img'].shape[:2]
    if depth.shape != shape:
        raise UserError(
            f'{info["depth_map_path"]} has the shape {depth.shape}, but its image '
            f'{info["img_path"]} is {shape[0]} x {shape[1]} (height x width). Expected a grey PNG '
            'of the size of the image.'
        )
    return depth


def _summarize(depth: np.ndarray) -> tuple[float, float, float, float]:
    """Returns minimum, median and maximum of the measured depths, and the share of the latter."""
    depths = depth[depth > 0]  # 0 is not measured
    if not len(depths):
        return np.nan, np.nan, np.nan, 0.0
    return depths.min(), np.median(depths), depths.max(), len(depths) / depth.size


def check_depth(cfg: Config, loader: str, max_images: int | None = None) -> str:
    """Checks the depth maps of a loader against the model.

    Args:
        cfg: A config of mmseg's DepthEstimator, whose scope must be the default.
        loader: Name of the data loader, such as ``'train_dataloader'``.
        max_images: Number of depth maps to read, evenly spaced; by default all. That each image
            has one is checked for all.

    Returns:
        A report with the range of the depths.

    Raises:
        UserError: If an image has no depth map, a file cannot be read, or the depths are not in
            the unit of the model.
    """
    max_depth, reports = cfg.model.decode_head.max_depth, []
    for dataset_cfg in unwrap(cfg[loader].dataset):
        dataset = DATASETS.build(dict(dataset_cfg, lazy_init=True))
        infos = dataset.load_data_list()
        missing = [i['depth_map_path'] for i in infos if not Path(i['depth_map_path']).is_file()]
        if not infos or missing:
            raise UserError(
                f'{loader}: {len(infos)} images {dataset.data_prefix["img_path"]}/*'
                f'{dataset.img_suffix}, of which {len(missing)} have no depth map'
                + (f', such as {missing[0]}.' if missing else '. Put the images there.')
            )
        number = min(len(infos), max_images or len(infos))
        maps = (_read_depth(dataset, infos[i * len(infos) // number]) for i in range(number))
        # Of each map; all of them would not fit into memory.
        smallest, medians, largest, shares = np.transpose([_summarize(depth) for depth in maps])
        median = np.nanmedian(medians) if shares.any() else 0.0
        if not max_depth / 100 < median < max_depth:
            raise UserError(
                f'{loader}: the median depth is {median:g} m, but the head predicts 0 to '
                f'{max_depth:g} m. Set depth_rescale_factor of LoadDepthAnnotation (metres per '
                'unit of the files), or model.decode_head.max_depth.'
            )
        reports.append(
            f'{loader}: {len(infos)} images with depth maps, {number} of them read: '
            f'{np.nanmin(smallest):.2f} to {np.nanmax(largest):.2f} m, median {median:.2f} m; '
            f'{1 - shares.mean():.1%} of the pixels without depth'
        )
    return '\n'.join(reports)
