"""Checks of data before training, so that a mistake costs seconds instead of hours."""

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmwf.libraries import import_task_library
from mmwf.processes import local_rank

from .coco import check_coco
from .paths import check_data
from .wrappers import LOADERS

__all__ = ['CHECKS', 'LOADERS', 'SAMPLE', 'check_coco', 'check_data', 'check_datasets']

SAMPLE = 50  # images per loader that are checked before training


def _check_detection(cfg: Config, loader: str, max_images: int | None) -> str:
    check_coco(cfg, (loader,))
    return f'{loader}: all annotations fit the model and the images.'


def _check_segmentation(cfg: Config, loader: str, max_images: int | None) -> str:
    if cfg.model.type == 'DepthEstimator':
        from .depth import check_depth

        return check_depth(cfg, loader, max_images)
    from .segmentation import check_segmentation

    return check_segmentation(cfg, loader, max_images)


def _check_classification(cfg: Config, loader: str, max_images: int | None) -> str:
    from .classification import check_classification

    return check_classification(cfg, loader, max_images)


#: The check of a data loader for each default scope.
CHECKS = {
    'mmpretrain': _check_classification,
    'mmdet': _check_detection,
    'mmseg': _check_segmentation,
}


def check_datasets(
    cfg: Config, loaders: tuple[str, ...] = LOADERS, max_images: int | None = None
) -> list[str]:
    """Checks that the data of a config exist and fit its model.

    Only the first process on each machine checks more than the existence of the files.

    Args:
        cfg: The config.
        loaders: Names of the data loaders; those missing from the config are skipped.
        max_images: Number of images to check, evenly spaced; by default all. Annotations of COCO
            are always all checked.

    Returns:
        A report for each loader; an empty list if the config's default scope has no check.

    Raises:
        UserError: If data are missing or do not fit the model.
    """
    check_data(cfg, loaders)
    scope = cfg.get('default_scope')
    if scope not in CHECKS or local_rank() != 0:
        return []
    import_task_library(cfg)
    with DefaultScope.overwrite_default_scope(scope):
        return [CHECKS[scope](cfg, loader, max_images) for loader in loaders if cfg.get(loader)]
