"""Labelled images, to train a diffusion model on pixels."""

from functools import partial
from pathlib import Path

from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmwf.errors import UserError
from mmwf.registry import DATASETS

from .images import read_square


@DATASETS.register_module()
class ImageFolder(Dataset):
    """Images in one folder per class.

    Args:
        data_root: Folder with ``CLASS/*.png`` (or ``.jpg`` ...). Labels are indices of the sorted
            class names.
        image_size: Side of the square images in pixels (see :func:`.center_crop`).
        channels: 3 for RGB, 1 for grey.
        flip_prob: Probability of a horizontal flip.

    Raises:
        UserError: If there are no classes, or a class has no images.
    """

    def __init__(
        self, data_root: str | Path, image_size: int, channels: int = 3, flip_prob: float = 0.0
    ):
        from torchvision import datasets, transforms

        flip = transforms.RandomHorizontalFlip(flip_prob)
        try:
            self.images = datasets.ImageFolder(
                str(data_root),
                transforms.Compose([flip, transforms.PILToTensor()]),
                loader=partial(read_square, size=image_size, mode='L' if channels == 1 else 'RGB'),
            )
        except OSError as error:
            raise UserError(f'{error} Expected images as {data_root}/CLASS/*.') from error

    @property
    def metainfo(self) -> dict:
        """The class names, which MMEngine stores in checkpoints."""
        return dict(classes=self.images.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        """Returns an item.

        Returns:
            ``inputs``, (channels, image_size, image_size), uint8; ``data_samples`` with ``label``.

        Raises:
            UserError: If the file cannot be read as an image.
        """
        image, label = self.images[index]
        return dict(inputs=image, data_samples=BaseDataElement(label=label))
