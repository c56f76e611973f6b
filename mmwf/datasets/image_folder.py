"""Images with labels, to train a diffusion model on pixels."""

from functools import partial
from pathlib import Path

from mmengine.structures import BaseDataElement
from PIL import Image
from torch.utils.data import Dataset

from mmwf.registry import DATASETS

from .images import center_crop


def _open(path: str, mode: str) -> Image.Image:
    with Image.open(path) as file:
        return file.convert(mode)


@DATASETS.register_module()
class ImageFolder(Dataset):
    """Images in one folder for each class, as pixels.

    Args:
        data_root: Holds ``CLASS/*.png`` (or ``.jpg`` ...); labels follow the sorted class names.
        image_size: Side of the square that is cut out of each image (see :func:`.center_crop`).
        channels: 3 for RGB, 1 for grey.
        flip_prob: Probability of the mirror image.

    Raises:
        FileNotFoundError: If there are no classes, or one without images.
    """

    def __init__(
        self, data_root: str | Path, image_size: int, channels: int = 3, flip_prob: float = 0.0
    ):
        from torchvision import datasets, transforms

        crop = partial(center_crop, size=image_size)
        flip = transforms.RandomHorizontalFlip(flip_prob)
        self.images = datasets.ImageFolder(
            str(data_root),
            transforms.Compose([crop, flip, transforms.PILToTensor()]),
            loader=partial(_open, mode='L' if channels == 1 else 'RGB'),
        )

    @property
    def metainfo(self) -> dict:
        """The names of the classes, which MMEngine keeps in checkpoints."""
        return dict(classes=self.images.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        """Returns ``inputs``, (channels, image_size, image_size) in uint8, and the ``label``."""
        image, label = self.images[index]
        return dict(inputs=image, data_samples=BaseDataElement(label=label))
