"""The 1,797 scanned handwritten digits in scikit-learn, for the quick start."""

from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmwf.files import write_bytes

IMAGE_SIZE = 32
VAL_SHARE = 0.2


def split_digits(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Splits the digits into 80 % for training and 20 % for validation, stratified by class.

    Args:
        seed: Seed of the split.

    Returns:
        For ``'train'`` and ``'val'`` the scans (n, 8, 8), uint8 from 0 (paper) to 255 (ink), and
        the labels (n,).
    """
    digits = load_digits()
    scans = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train, val, train_labels, val_labels = train_test_split(
        scans, digits.target, test_size=VAL_SHARE, random_state=seed, stratify=digits.target
    )
    return {'train': (train, train_labels), 'val': (val, val_labels)}


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes an image in the format of the file's suffix.

    Raises:
        UserError: If that is not possible.
    """
    _, encoded = cv2.imencode(path.suffix, image)
    # Without waiting for the disk, which would take minutes for thousands of small files.
    write_bytes(path, encoded.tobytes(), sync=False)


def write_digits(root: str | Path, seed: int = 0) -> dict[str, int]:
    """Writes the digits as a folder tree like ImageNet's.

    Args:
        root: Output folder for ``{train,val}/DIGIT/INDEX.png``, 32 x 32 pixels. Existing files are
            overwritten.
        seed: Seed of the split.

    Returns:
        Number of images in each split.

    Raises:
        UserError: If an image cannot be written.
    """
    counts = {}
    for split, (scans, labels) in split_digits(seed).items():
        for index, (scan, label) in enumerate(zip(scans, labels, strict=True)):
            path = Path(root) / split / str(label) / f'{index:04d}.png'
            image = cv2.resize(scan, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
            write_image(path, image)
        counts[split] = len(labels)
    return counts
