"""Figures of predictions.

Each function writes a PNG and returns the matplotlib figure. The predictions are samples as
``mmwf test --out FILE.pkl`` writes them.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle
from pycocotools.coco import COCO
from pycocotools.mask import decode

from .saving import save_figure

DPI = 110
COLORS = colormaps['tab10'].colors  # of the classes
CROWD_COLOR = (0.7, 0.7, 0.7)


def _evenly_spaced(items: list, number: int) -> list:
    """Returns ``number`` evenly spaced items, or all if there are fewer."""
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]


def _subplots(rows: int, columns: int, **figsize) -> tuple[Figure, np.ndarray]:
    """Makes a figure and its axes (rows, columns), without frames and ticks."""
    figure = Figure(**figsize)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis('off')
    return figure, axes


def draw_classification(
    predictions: list[dict], path: Path, rows: int = 6, columns: int = 10
) -> Figure:
    """Draws test images with their predicted and true labels: the errors first, in red.

    Args:
        predictions: Samples of mmpretrain.
        path: The PNG to write.
        rows, columns: Size of the grid.
    """
    samples = [
        (s['img_path'], int(s['pred_label']), int(s['gt_label']), float(s['pred_score'].max()))
        for s in predictions
    ]
    wrong = [s for s in samples if s[1] != s[2]]
    right = [s for s in samples if s[1] == s[2]]
    shown = wrong[: rows * columns]
    shown += _evenly_spaced(right, rows * columns - len(shown))  # sorted by class: some of each
    figure, axes = _subplots(rows, columns, figsize=(columns * 1.15, rows * 1.45))
    for ax, (image, predicted, true, score) in zip(axes.flat, shown, strict=False):
        ax.imshow(imread(image), cmap='gray_r', interpolation='nearest')
        color = 'black' if predicted == true else 'red'
        ax.set_title(f'read {predicted} ({score:.0%})\nis {true}', fontsize=8, color=color)
    figure.suptitle(
        f'{len(samples)} test images, {len(wrong)} misread (red, shown first); '
        'predicted label (confidence), true label'
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    save_figure(figure, path, dpi=DPI)
    return figure


def _draw_objects(ax: Axes, image: np.ndarray, objects: list[tuple]) -> None:
    """Draws an image with masks, boxes and captions.

    Args:
        ax: The axes to draw on.
        image: (h, w, 3), uint8.
        objects: For each object its mask (h, w), box (x, y, width, height), colour and caption.
    """
    image = image / 255
    for mask, box, color, caption in objects:
        image[mask == 1] = 0.35 * image[mask == 1] + 0.65 * np.array(color)
        x, y, width, height = box
        corner = (x - 0.5, y - 0.5)  # matplotlib has pixel centres at integers, COCO at halves
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color))
        style = dict(boxstyle='square,pad=0.1', facecolor=color, edgecolor='none')
        ax.text(*corner, caption, fontsize=6, va='bottom', bbox=style)
    ax.imshow(image)


def draw_detection(
    predictions: list[dict],
    path: Path,
    *,
    ann_file: str,
    min_score: float = 0.5,
    rows: int = 4,
    columns: int = 4,
) -> Figure:
    """Draws test images with boxes and masks, the ground truth to the left of the predictions.

    Args:
        predictions: Samples of mmdet.
        path: The PNG to write.
        ann_file: The ground truth in COCO's format.
        min_score: Smallest score of a detection that is drawn.
        rows, columns: Number of images, evenly spaced in the test set.
    """
    coco = COCO(ann_file)
    categories = sorted(coco.cats)
    shown = _evenly_spaced(predictions, rows * columns)
    figure, axes = _subplots(rows, 2 * columns, figsize=(columns * 4, rows * 2.1))
    for (left, right), sample in zip(axes.reshape(-1, 2), shown, strict=False):
        image = imread(sample['img_path'])
        ground_truth = []
        for ann in coco.imgToAnns[sample['img_id']]:
            name = coco.cats[ann['category_id']]['name']
            color = COLORS[categories.index(ann['category_id'])]
            if ann['iscrowd']:
                name, color = f'{name} crowd', CROWD_COLOR
            ground_truth.append((coco.annToMask(ann), ann['bbox'], color, name))
        _draw_objects(left, image, ground_truth)
        instances = sample['pred_instances']
        keys = ('masks', 'bboxes', 'labels', 'scores')
        detections = [
            (
                decode(mask),
                (x1, y1, x2 - x1, y2 - y1),
                COLORS[label],
                f'{coco.cats[categories[label]]["name"]} {score:.0%}',
            )
            for mask, (x1, y1, x2, y2), label, score in zip(
                *(instances[key] for key in keys), strict=True
            )
            if score >= min_score
        ]
        _draw_objects(right, image, detections)
        left.set_title('ground truth', fontsize=8)
        right.set_title(f'predicted, score >= {min_score:g}', fontsize=8)
    figure.suptitle(f'{len(shown)} of {len(predictions)} test images')
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    save_figure(figure, path, dpi=DPI)
    return figure


def draw_segmentation(
    predictions: list[dict],
    path: Path,
    *,
    classes: Sequence[str],
    ignore_index: int = 255,
    rows: int = 4,
    columns: int = 4,
) -> Figure:
    """Draws test images, each with its ground truth and prediction to the right.

    Args:
        predictions: Samples of mmseg.
        path: The PNG to write.
        classes: Names of the classes, at most 11; the first one is the background, in black.
        ignore_index: Label of the ignored pixels, in white.
        rows, columns: Number of images, evenly spaced in the test set.
    """
    colors = np.ones((256, 3))
    colors[0] = 0
    colors[1 : len(classes)] = COLORS[: len(classes) - 1]
    shown = _evenly_spaced(predictions, rows * columns)
    figure, axes = _subplots(rows, 3 * columns, figsize=(columns * 4.5, rows * 1.7))
    for panels, sample in zip(axes.reshape(-1, 3), shown, strict=False):
        images = {
            'image': imread(sample['img_path']),
            'ground truth': colors[sample['gt_sem_seg']['data'][0]],
            'prediction': colors[sample['pred_sem_seg']['data'][0]],
        }
        for ax, (title, image) in zip(panels, images.items(), strict=True):
            ax.imshow(image)
            ax.set_title(title, fontsize=8)
    labels = [*range(len(classes)), ignore_index]
    figure.legend(
        handles=[Rectangle((0, 0), 1, 1, facecolor=colors[i], edgecolor='k') for i in labels],
        labels=[*classes, 'ignored'],
        loc='lower center',
        ncol=len(labels),
    )
    figure.suptitle(f'{len(shown)} of {len(predictions)} test images')
    figure.tight_layout(rect=(0, 0.05, 1, 0.99))
    save_figure(figure, path, dpi=DPI)
    return figure


def draw_generation(predictions: list[dict], path: Path, columns: int = 10) -> Figure:
    """Draws generated images, one row per class.

    Args:
        predictions: For each image ``image``, (3, h, w), uint8 as RGB, ``label``, and
            ``protocol``, the sampling settings.
        path: The PNG to write.
        columns: Largest number of images per class.
    """
    labels = sorted({int(sample['label']) for sample in predictions})
    height, width = predictions[0]['image'].shape[1:]
    zoom = max(1, 64 // height)  # for tiny images
    cell = np.array([height * zoom + 2, width * zoom + 2])  # with white lines between the images
    mosaic = np.full((*(cell * (len(labels), columns)), 3), 255, np.uint8)
    for row, label in enumerate(labels):
        images = [sample['image'] for sample in predictions if int(sample['label']) == label]
        for column, image in enumerate(images[:columns]):
            image = np.asarray(image).transpose(1, 2, 0)
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            y, x = cell * (row, column) + 1
            mosaic[y : y + image.shape[0], x : x + image.shape[1]] = image
    mosaic_height, mosaic_width = np.array(mosaic.shape[:2]) / DPI  # inches
    figure = Figure(figsize=(mosaic_width + 1.2, mosaic_height + 1))
    ax = figure.subplots()
    ax.imshow(mosaic, interpolation='none')
    ax.set_xticks([])
    ax.set_yticks(
        [(row + 0.5) * cell[0] - 0.5 for row in range(len(labels))],
        [f'class {label}' for label in labels],
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    protocol = predictions[0]['protocol']
    ax.set_title(
        f'{protocol["sampler"].upper()}, {protocol["num_steps"]} steps, '
        f'guidance {protocol["cfg_scale"]:g}, seed {protocol["seed"]}',
        fontsize=10,
    )
    figure.tight_layout()
    # The title may be wider than the images.
    save_figure(figure, path, dpi=DPI, bbox_inches='tight')
    return figure
