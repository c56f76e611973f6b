"""Pictures of the predictions of a test: ``mmwf test --show-dir``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from mmwf.datasets.inputs import Names
from mmwf.datasets.transforms import LoadImageFromFile
from mmwf.evaluation.predictions import Classes, read_ground_truth, read_prediction

from .labelled import draw_comparison
from .saving import picture_name, save_picture


class PredictionPictures(Hook):
    """Draws the prediction for each test image, beside the ground truth.

    In a distributed test each process draws its images.

    Args:
        folder: Folder of the drawings. They have the names of the images, and their folders below
            that of the test data.
        score_thr: Smallest score of an object that is drawn.
    """

    def __init__(self, folder: str | Path, score_thr: float = 0.3):
        self.folder = Path(folder).absolute()
        self.score_thr = score_thr
        self.load = LoadImageFromFile(max_pixels=None)  # the pipeline has read the image before

    def before_test(self, runner) -> None:
        """Looks up the classes and the folders of the test data."""
        dataset = runner.test_dataloader.dataset
        meta = getattr(dataset, 'metainfo', None) or {}
        self.classes = Classes.from_meta(meta)
        prefixes = getattr(dataset, 'data_prefix', None) or {}
        self.roots = [Path(root) for root in prefixes.values() if isinstance(root, str) and root]
        self.names = Names()

    def _name(self, path: str) -> str:
        """Returns the path of a drawing in the folder."""
        name = path.rpartition('/')[2]
        for root in self.roots:
            if Path(path).is_relative_to(root):
                name = Path(path).relative_to(root).as_posix()
        return self.names.take(picture_name(name))

    def after_test_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draws the images of a batch."""
        for sample in outputs:
            prediction = read_prediction(
                sample, num_classes=len(self.classes.names), score_thr=self.score_thr
            )
            truth = read_ground_truth(sample)
            image = self.load(dict(img_path=sample.img_path))['img']
            image = np.ascontiguousarray(image[..., ::-1])
            drawn = draw_comparison(image, truth, prediction, self.classes, self.score_thr)
            save_picture(self.folder / self._name(sample.img_path), drawn)
