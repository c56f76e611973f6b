"""A stand-in for ``panopticapi``, which mmdet's panoptic data and metric import.

mmdet does not install that package. When, and only when, it is missing, :func:`install` answers its
import with the names below, which are all that mmdet uses in training and testing. mmdet itself
matches the segments; :class:`PQStat` counts the matches.

A segment's id is stored as the colour of its pixels: id = red + 256 green + 256^2 blue.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

import numpy as np

VOID = 0  # the id of pixels without a segment
OFFSET = 256**3  # larger than every id


def rgb2id(color: np.ndarray) -> np.ndarray:
    """Maps colours (height, width, 3), uint8, to ids (height, width), int32."""
    red, green, blue = np.moveaxis(np.asarray(color, np.int32), -1, 0)
    return red + 256 * green + 256**2 * blue


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """Maps ids (height, width) to colours (height, width, 3), uint8."""
    ids = np.asarray(ids)
    return np.stack([ids // 256**k % 256 for k in range(3)], axis=-1).astype(np.uint8)


@dataclass
class PQStatCat:
    """Matches of the segments of one class.

    Args:
        iou: Sum of the IoUs of the matched pairs.
        tp: Number of matched pairs of a predicted and a true segment.
        fp: Number of predicted segments without a match.
        fn: Number of true segments without a match.
    """

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: 'PQStatCat') -> 'PQStatCat':
        self.iou += other.iou
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        return self


class PQStat:
    """Panoptic quality (arXiv 1801.00868, equation 1) from the matches of each class.

    PQ = SQ * RQ, where the segmentation quality SQ is the mean IoU of the matched pairs, and the
    recognition quality RQ = TP / (TP + FP / 2 + FN / 2).
    """

    def __init__(self):
        self.pq_per_cat = defaultdict(PQStatCat)

    def __getitem__(self, category_id: int) -> PQStatCat:
        return self.pq_per_cat[category_id]

    def __iadd__(self, other: 'PQStat') -> 'PQStat':
        for category_id, matches in other.pq_per_cat.items():
            self.pq_per_cat[category_id] += matches
        return self

    def pq_average(
        self, categories: dict[int, dict], isthing: bool | None
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Computes the mean over the classes that occur in the ground truth or a prediction.

        Args:
            categories: The category of each id, with ``isthing``.
            isthing: Whether to average things or stuff; ``None`` for both.

        Returns:
            ``pq``, ``sq``, ``rq`` and the number ``n`` of classes that were averaged, and ``pq``,
            ``sq``, ``rq`` of each class. They are 0 for classes that do not occur.
        """
        per_class, occurring = {}, []
        for category_id, category in categories.items():
            if isthing is not None and bool(category['isthing']) != isthing:
                continue
            matches = self.pq_per_cat.get(category_id, PQStatCat())
            weight = matches.tp + matches.fp / 2 + matches.fn / 2
            sq = matches.iou / matches.tp if matches.tp else 0.0
            rq = matches.tp / weight if weight else 0.0
            per_class[category_id] = dict(pq=sq * rq, sq=sq, rq=rq)
            if weight:
                occurring.append(per_class[category_id])
        mean = {
            key: sum(values[key] for values in occurring) / max(len(occurring), 1)
            for key in ('pq', 'sq', 'rq')
        }
        return dict(mean, n=len(occurring)), per_class


#: The names of the module that each import gives.
MODULES = {
    'panopticapi': {},
    'panopticapi.utils': dict(rgb2id=rgb2id, id2rgb=id2rgb),
    'panopticapi.evaluation': dict(PQStat=PQStat, PQStatCat=PQStatCat, VOID=VOID, OFFSET=OFFSET),
}


class _StandInFinder(MetaPathFinder, Loader):
    """Answers the import of ``panopticapi``."""

    def find_spec(self, fullname, path, target=None):
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == 'panopticapi')

    def create_module(self, spec):
        return None  # a plain module

    def exec_module(self, module):
        module.__dict__.update(MODULES[module.__name__])


def install() -> None:
    """Makes ``import panopticapi`` give the stand-in, unless the package is there."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(_StandInFinder())  # last, so that the package goes first
