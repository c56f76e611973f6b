"""Pictures of predictions for the quick start."""

from pathlib import Path

import matplotlib
import matplotlib.image

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
