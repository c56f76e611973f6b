"""Pictures of predictions for the quick start."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import matplotlib.image
import numpy as np
from pycocotools.coco import COCO
from pycocotools.mask import decode

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402


def draw_classification(predictions: list[dict], path: Path, rows: int = 6, columns: int = 10):
    """Draws test images with predicted and true labels: all mistakes first, in red.

    Args:
        predictions: Samples as test.py's ``--out FILE.pkl`` writes them.
        path: The PNG to write.
        rows, columns: Size of the grid.
    """
    samples = [
        (s['img_path'], int(s['pred_label']), int(s['gt_label']), float(s['pred_score'].max()))
        for s in predictions
    ]
    wrong = [s for s in samples if s[1] != s[2]]
    right = [s for s in samples if s[1] == s[2]]
    num_wrong, wrong = len(wrong), wrong[: rows * columns]
    places = min(rows * columns - len(wrong), len(right))
    shown = wrong + [right[i * len(right) // places] for i in range(places)]  # of every class
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.15, rows * 1.45))
    for ax in axes.flat:
        ax.axis('off')
    for ax, (image, predicted, true, score) in zip(axes.flat, shown, strict=False):
        ax.imshow(matplotlib.image.imread(image), cmap='gray_r', interpolation='nearest')
        color = 'black' if predicted == true else 'red'
        ax.set_title(f'read {predicted} ({score:.0%})\nis {true}', fontsize=8, color=color)
    figure.suptitle(
        f'{len(samples)} test images, {num_wrong} misread (red, shown first); '
        'predicted label (confidence), true label'
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_objects(ax, image: np.ndarray, objects: list[tuple]) -> None:
    """Draws an image with masks, boxes and captions.

    Args:
        ax: Where.
        image: (h, w, 3).
        objects: For each (mask, box, label, caption): (h, w), (x, y, width, height), an index that
            chooses the colour (or -1 for grey), a text.
    """
    image = image / 255
    colors = plt.get_cmap('tab10').colors
    for mask, box, label, caption in objects:
        color = colors[label] if label >= 0 else (0.7, 0.7, 0.7)
        image[mask == 1] = 0.35 * image[mask == 1] + 0.65 * np.array(color)
        x, y, width, height = box
        # Pixel centres lie at integers in matplotlib, at halves in COCO.
        place = (x - 0.5, y - 0.5)
        ax.add_patch(plt.Rectangle(place, width, height, fill=False, edgecolor=color))
        style = dict(boxstyle='square,pad=0.1', facecolor=color, edgecolor='none')
        ax.text(*place, caption, fontsize=6, va='bottom', bbox=style)
    ax.imshow(image)
    ax.axis('off')


def draw_detection(
    predictions: list[dict],
    path: Path,
    *,
    ann_file: str,
    min_score: float = 0.5,
    rows: int = 4,
    columns: int = 4,
) -> None:
    """Draws test images with boxes and masks, the truth to the left of the predictions.

    Args:
        predictions: Samples as test.py's ``--out FILE.pkl`` writes them for mmdet.
        path: The PNG to write.
        ann_file: The truth in COCO's format.
        min_score: Predictions below this are left out.
        rows, columns: Number of images, taken evenly from the whole set.
    """
    coco = COCO(ann_file)
    categories = sorted(coco.cats)
    shown = [predictions[i * len(predictions) // (rows * columns)] for i in range(rows * columns)]
    figure, axes = plt.subplots(rows, 2 * columns, figsize=(columns * 4, rows * 2.1))
    for (left, right), sample in zip(axes.reshape(-1, 2), shown, strict=True):
        image = plt.imread(sample['img_path'])
        truth = [
            (
                coco.annToMask(ann),
                ann['bbox'],
                -1 if ann['iscrowd'] else categories.index(ann['category_id']),
                coco.cats[ann['category_id']]['name'] + (' crowd' if ann['iscrowd'] else ''),
            )
            for ann in coco.imgToAnns[sample['img_id']]
        ]
        _draw_objects(left, image, truth)
        instances = sample['pred_instances']
        keys = ('masks', 'bboxes', 'labels', 'scores')
        found = [
            (
                decode(mask),
                (x1, y1, x2 - x1, y2 - y1),
                int(label),
                f'{coco.cats[categories[label]]["name"]} {score:.0%}',
            )
            for mask, (x1, y1, x2, y2), label, score in zip(
                *(instances[key] for key in keys), strict=True
            )
            if score >= min_score
        ]
        _draw_objects(right, image, found)
        left.set_title('truth', fontsize=8)
        right.set_title(f'predicted, score >= {min_score:g}', fontsize=8)
    figure.suptitle(f'{len(shown)} of {len(predictions)} test images')
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_segmentation(
    predictions: list[dict],
    path: Path,
    *,
    classes: Sequence[str],
    ignore_index: int = 255,
    rows: int = 4,
    columns: int = 4,
) -> None:
    """Draws test images, each with the true and the predicted classes of its pixels to the right.

    Args:
        predictions: Samples as test.py's ``--out FILE.pkl`` writes them for mmseg.
        path: The PNG to write.
        classes: Their names; the first one is the background and black.
        ignore_index: The label of pixels that do not count, drawn in white.
        rows, columns: Number of images, taken evenly from the whole set.
    """
    colors = np.ones((256, 3))
    colors[0] = 0
    colors[1 : len(classes)] = plt.get_cmap('tab10').colors[: len(classes) - 1]
    shown = [predictions[i * len(predictions) // (rows * columns)] for i in range(rows * columns)]
    figure, axes = plt.subplots(rows, 3 * columns, figsize=(columns * 4.5, rows * 1.7))
    for (image, truth, predicted), sample in zip(axes.reshape(-1, 3), shown, strict=True):
        image.imshow(plt.imread(sample['img_path']))
        truth.imshow(colors[sample['gt_sem_seg']['data'][0]])
        predicted.imshow(colors[sample['pred_sem_seg']['data'][0]])
        for ax, title in ((image, 'image'), (truth, 'truth'), (predicted, 'prediction')):
            ax.set_title(title, fontsize=8)
            ax.axis('off')
    labels = [*range(len(classes)), ignore_index]
    figure.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, facecolor=colors[i], edgecolor='k') for i in labels],
        labels=[*classes, 'ignored'],
        loc='lower center',
        ncol=len(labels),
    )
    figure.suptitle(f'{len(shown)} of {len(predictions)} test images')
    figure.tight_layout(rect=(0, 0.05, 1, 0.99))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_generation(predictions: list[dict], path: Path, columns: int = 10) -> None:
    """Draws generated images, a row for each class.

    Args:
        predictions: Samples as test.py's ``--out FILE.pkl`` writes them for image generation.
        path: The PNG to write.
        columns: Number of images of each class, at most.
    """
    labels = sorted({int(sample['label']) for sample in predictions})
    height, width = predictions[0]['image'].shape[1:]
    zoom = max(1, 64 // height)  # tiny images are hard to read
    cell = np.array([height * zoom + 2, width * zoom + 2])  # with a white line between
    mosaic = np.full((*(cell * (len(labels), columns)), 3), 255, np.uint8)
    for row, label in enumerate(labels):
        images = [sample['image'] for sample in predictions if int(sample['label']) == label]
        for column, image in enumerate(images[:columns]):
            image = cv2.resize(
                np.asarray(image).transpose(1, 2, 0),
                None,
                fx=zoom,
                fy=zoom,
                interpolation=cv2.INTER_CUBIC,
            )
            y, x = cell * (row, column) + 1
            mosaic[y : y + image.shape[0], x : x + image.shape[1]] = image
    rows_height, columns_width = np.array(mosaic.shape[:2]) / 110  # inches
    figure, ax = plt.subplots(figsize=(columns_width + 1.2, rows_height + 1))
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
    figure.savefig(path, dpi=110, bbox_inches='tight')  # few images are narrower than the title
    plt.close(figure)
