"""``mmwf infer``: predicts what is in pictures, and draws it."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmwf.apis.inferencer import Inferencer
from mmwf.apis.loading import Picture, read_pictures
from mmwf.datasets.inputs import Names
from mmwf.evaluation.predictions import Classes, Prediction
from mmwf.files import write_bytes, write_text
from mmwf.visualization.labelled import draw_prediction
from mmwf.visualization.saving import picture_name, save_picture

from ._pictures import Failures, add_picture_arguments, count_pictures, read_picture_arguments

DESCRIPTION = """Predict what is in pictures. No annotations are needed; the config says the task.

Writes DIR/predictions.json and, in DIR/pictures, the pictures with their predictions drawn on them.
In the JSON, boxes are x1, y1, x2, y2 in pixels and masks are run lengths as in COCO. Maps are PNGs
in DIR/maps: class indices (segmentation), millimetres (depth, 16 bits), or segments as in COCO
panoptic (id = R + 256 G + 65536 B).
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_picture_arguments(parser)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the output')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        metavar='S',
        help='detection: smallest score of an object (default: 0.3)',
    )
    parser.add_argument(
        '--no-pictures', action='store_true', help='write the predictions only, draw nothing'
    )
    parser.add_argument(
        '--tile',
        type=int,
        metavar='PIXELS',
        help='cut larger pictures into tiles of this side, each of which goes through the test '
        'pipeline, and merge their predictions (detection, segmentation, depth)',
    )
    parser.add_argument(
        '--overlap',
        type=int,
        default=128,
        metavar='PIXELS',
        help='pixels that neighbouring tiles share; should be at least the size of the objects '
        '(default: 128)',
    )
    return parser.parse_intermixed_args(argv)


def _round(values: np.ndarray, digits: int) -> list:
    return np.round(values.astype(np.float64), digits).tolist()


class Output:
    """The files of the predictions.

    Args:
        folder: The folder.
        classes: The classes of the model.
        draw: Whether to draw pictures.
    """

    def __init__(self, folder: Path, classes: Classes, draw: bool):
        self.folder, self.classes, self.draw = folder, classes, draw
        self.pictures, self.maps = Names(), Names()
        self.entries: list[dict] = []

    def _write_map(self, values: np.ndarray, name: str) -> str:
        """Writes a PNG and returns its path in the folder."""
        path = f'maps/{self.maps.take(str(Path(name).with_suffix(".png")))}'
        _, data = cv2.imencode('.png', values)
        write_bytes(self.folder / path, data.tobytes(), sync=False)
        return path

    def _describe(self, prediction: Prediction, name: str) -> dict:
        """Returns a prediction as JSON values; writes its map."""
        entry = {}
        if prediction.labels is not None:
            entry['labels'] = prediction.labels.tolist()
            entry['names'] = [self.classes.name(label) for label in entry['labels']]
            entry['scores'] = _round(prediction.scores, 5)
        if prediction.boxes is not None:
            entry['boxes'] = _round(prediction.boxes, 2)
        if prediction.masks is not None:
            entry['masks'] = [
                dict(size=list(mask['size']), counts=mask['counts'].decode())
                for mask in prediction.masks
            ]
        if prediction.class_map is not None:
            classes = prediction.class_map
            labels, counts = np.unique(classes, return_counts=True)
            entry['labels'] = labels.tolist()
            entry['names'] = [self.classes.name(label) for label in entry['labels']]
            entry['shares'] = _round(counts / classes.size, 5)
            kind = np.uint8 if max(len(self.classes.names), labels.max()) < 256 else np.uint16
            entry['map'] = self._write_map(classes.astype(kind), name)
        if prediction.segment_map is not None:
            entry['segments'] = [
                dict(segment, name=self.classes.name(segment['label']))
                for segment in prediction.segments
            ]
            ids = prediction.segment_map
            colors = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255  # BGR, as OpenCV writes
            entry['map'] = self._write_map(colors.astype(np.uint8), name)
        if prediction.depth is not None:
            depth = prediction.depth
            entry['metres'] = _round(np.array([depth.min(), depth.max()]), 3)
            millimetres = np.clip(np.round(1000 * depth), 0, 65535).astype(np.uint16)
            entry['map'] = self._write_map(millimetres, name)
        return entry

    def add(self, picture: Picture, prediction: Prediction) -> None:
        """Writes the picture and the map of a prediction, and keeps its entry in the JSON."""
        name, height, width = picture.source.name, *picture.image.shape[:2]
        entry = dict(input=picture.source.path)
        if picture.frame is not None:
            entry['frame'] = picture.frame
            name = f'{Path(name).with_suffix("")}/{picture.frame:06d}.png'
        entry.update(width=width, height=height, **self._describe(prediction, name))
        if self.draw:
            entry['picture'] = f'pictures/{self.pictures.take(picture_name(name))}'
            image = np.ascontiguousarray(picture.image[..., ::-1]).astype(np.uint8)
            drawn = draw_prediction(image, prediction, self.classes)
            save_picture(self.folder / entry['picture'], drawn)
        self.entries.append(entry)

    def write(self, order: dict[str, int], failed: list[dict], **head) -> Path:
        """Writes ``predictions.json``, a line for each picture.

        Args:
            order: The number of each input.
            failed: The inputs that could not be read, with the errors.
            head: What is said of all pictures.
        """
        self.entries.sort(key=lambda entry: (order[entry['input']], entry.get('frame', 0)))
        head = dict(head, classes=list(map(str, self.classes.names)), failed=failed)
        lines = ',\n'.join(json.dumps(entry) for entry in self.entries)
        path = self.folder / 'predictions.json'
        write_text(path, f'{json.dumps(head)[:-1]}, "predictions": [\n{lines}\n]}}\n')
        return path


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    cfg, sources = read_picture_arguments(args, args.out)
    inferencer = Inferencer(
        cfg,
        args.checkpoint,
        batch_size=args.batch_size,
        score_thr=args.score_thr,
        tile=args.tile,
        overlap=args.overlap,
    )
    failures, found, best = Failures(), 0, 0.0
    output = Output(Path(args.out), inferencer.classes, not args.no_pictures)
    pictures = read_pictures(sources, inferencer.pipeline, failures, args.frame_step)
    progress = tqdm(
        inferencer.stream(pictures, failures), total=count_pictures(sources), unit='picture'
    )
    try:
        for picture, prediction in progress:
            output.add(picture, prediction)
            if prediction.boxes is not None:
                found += len(prediction.boxes)
                best = max(best, prediction.best_score or 0)
    finally:
        order = {source.path: i for i, source in enumerate(sources)}
        record = output.write(
            order,
            failures.entries,
            task=inferencer.task,
            config=str(args.config),
            checkpoint=args.checkpoint,
        )
    drawn = '' if args.no_pictures else f'{output.folder / "pictures"}/, '
    print(f'{inferencer.task}, {len(output.entries)} pictures: {drawn}{record}')
    if inferencer.task == 'detection' and output.entries and not found and best:
        print(
            f'No object has a score of {args.score_thr:g} or more; the best has {best:.2g}. For '
            'less certain ones: --score-thr.'
        )
    failures.check(len(sources), str(record))
