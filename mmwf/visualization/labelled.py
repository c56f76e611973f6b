"""Pictures with what a model says about them: classes, objects, maps of classes or depth.

Images are RGB, (height, width, 3), uint8. Small ones are enlarged, so that the text is readable.
"""

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

from mmwf.evaluation.predictions import Classes, Prediction

MIN_SIDE = 480  # of the longer side of a drawing, in pixels
MAX_LEGEND = 24  # classes in a legend
WHITE, BLACK, GREEN, RED = (255, 255, 255), (0, 0, 0), (0, 120, 0), (190, 0, 0)
BAR = (190, 215, 245)  # behind the scores of classes
UNKNOWN_DEPTH = (110, 110, 110)
FIGURE_SPACE = '\u2007'  # as wide as a digit


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / 'fonts/ttf/DejaVuSans.ttf'
    return ImageFont.truetype(str(path), size)


def _text_size(image: np.ndarray) -> int:
    return max(15, round(max(image.shape[:2]) / 45))


def enlargement(height: int, width: int) -> int:
    """Returns the factor by which a picture is enlarged."""
    return max(1, -(-MIN_SIDE // max(height, width)))


def enlarge(image: np.ndarray) -> np.ndarray:
    """Enlarges a small picture by a whole number."""
    factor = enlargement(*image.shape[:2])
    if factor == 1:
        return image.copy()
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _repeat(values: np.ndarray) -> np.ndarray:
    """Enlarges a map as :func:`enlarge` does a picture, without mixing its values."""
    factor = enlargement(*values.shape[:2])
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def class_color(label: int, classes: Classes) -> tuple[int, int, int]:
    """Returns the colour of a class: that of its palette, else one of its own."""
    if label < len(classes.palette):
        return tuple(int(value) for value in classes.palette[label])
    if label < 10:
        return tuple(round(255 * value) for value in colormaps['tab10'].colors[label])
    red_green_blue = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.5 + label % 3 * 0.25, 0.9)
    return tuple(round(255 * value) for value in red_green_blue)


def _text_color(background: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Shortens a text to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'


def _pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Adds white to the right and below."""
    missing = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), constant_values=255)


def above(*images: np.ndarray) -> np.ndarray:
    """Puts images above each other, on white."""
    width = max(image.shape[1] for image in images)
    return np.concatenate([_pad(image, 0, width) for image in images])


def beside(*images: np.ndarray) -> np.ndarray:
    """Puts images beside each other, on white, with a gap."""
    height = max(image.shape[0] for image in images)
    padded = [_pad(image, height, image.shape[1] + 8) for image in images]
    padded[-1] = padded[-1][:, :-8]
    return np.concatenate(padded, axis=1)


def _rows(
    texts: Sequence[str],
    width: int,
    size: int,
    *,
    colors: Sequence[tuple] = (),
    bars: Sequence[float] = (),
) -> np.ndarray:
    """Draws lines of text, each with a colour and a bar behind it whose length is in [0, 1]."""
    font, height = _font(size), round(1.5 * size)
    image = Image.new('RGB', (width, height * len(texts)), WHITE)
    draw = ImageDraw.Draw(image)
    for i, text in enumerate(texts):
        if len(bars):
            draw.rectangle((0, i * height + 1, bars[i] * width - 1, (i + 1) * height - 2), BAR)
        color = colors[i] if colors else BLACK
        text = _fit(text, font, width - size)
        draw.text((size // 2, (i + 0.5) * height), text, color, font, anchor='lm')
    return np.asarray(image)


def titled(title: str, image: np.ndarray) -> np.ndarray:
    """Puts a title above an image."""
    return above(_rows([title], image.shape[1], _text_size(image)), image)


def draw_scores(
    image: np.ndarray, prediction: Prediction, classes: Classes, truth: Prediction | None = None
) -> np.ndarray:
    """Draws a picture with its most likely classes below, and the true ones if they are known."""
    picture = enlarge(image)
    width, size = max(picture.shape[1], MIN_SIDE // 2), _text_size(picture)
    labels, scores = prediction.labels, prediction.scores
    texts = [
        f'{score:6.1%}'.replace(' ', FIGURE_SPACE) + f'  {classes.name(label)}'
        for label, score in zip(labels, scores, strict=True)
    ]
    parts = [picture, _rows(texts, width, size, bars=np.clip(scores, 0, 1))]
    if truth is not None:
        names = ', '.join(map(classes.name, truth.labels))
        color = GREEN if labels[0] in truth.labels else RED
        parts.append(_rows([f'ground truth: {names}'], width, size, colors=[color]))
    return above(*parts)


def draw_objects(image: np.ndarray, objects: Prediction, classes: Classes) -> np.ndarray:
    """Draws boxes, masks, and captions with class and score."""
    factor = enlargement(*image.shape[:2])
    picture = enlarge(image)
    order = range(len(objects.labels))[::-1]  # the best ones last, on top
    for i in order if objects.masks is not None else ():
        x, y, width, height = map(int, rle.toBbox(objects.masks[i]))
        mask = rle.decode(objects.masks[i])[y : y + height, x : x + width] > 0
        mask = mask.repeat(factor, axis=0).repeat(factor, axis=1)
        region = picture[
            y * factor : (y + height) * factor, x * factor : (x + width) * factor
        ]  # a view
        color = np.array(class_color(objects.labels[i], classes))
        region[mask] = (0.5 * region[mask] + 0.5 * color).astype(np.uint8)
    size = _text_size(picture)
    font, line = _font(size), max(2, size // 6)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for i in order:
        color = class_color(objects.labels[i], classes)
        x1, y1, x2, y2 = np.sort((objects.boxes[i] * factor).reshape(2, 2), axis=0).ravel()
        draw.rectangle((x1, y1, x2, y2), outline=color, width=line)
    for i in order:
        color = class_color(objects.labels[i], classes)
        x1, y1 = objects.boxes[i, :2] * factor
        text = classes.name(objects.labels[i])
        if objects.scores is not None:
            text += f' {objects.scores[i]:.0%}'
        width, height = font.getlength(text) + size / 2, 1.3 * size
        x = np.clip(x1, 0, max(0, canvas.width - width))
        y = y1 - height if y1 >= height else np.clip(y1, 0, canvas.height - height)
        draw.rectangle((x, y, x + width, y + height), color)
        draw.text((x + size / 4, y + height / 2), text, _text_color(color), font, anchor='lm')
    return np.asarray(canvas)


def _legend(entries: Sequence[tuple[str, tuple]], width: int, size: int) -> np.ndarray:
    """Draws names beside squares of their colours, in as many rows as they need."""
    font, height = _font(size), round(1.6 * size)
    places, x, y = [], 0.0, 0
    for text, _ in entries:
        length = font.getlength(text) + 2.5 * size
        if x and x + length > width:
            x, y = 0.0, y + height
        places.append((x, y))
        x += length
    image = Image.new('RGB', (width, y + height), WHITE)
    draw = ImageDraw.Draw(image)
    for (text, color), (x, y) in zip(entries, places, strict=True):
        top = y + 0.3 * size
        draw.rectangle((x + 0.4 * size, top, x + 1.4 * size, top + size), color, BLACK)
        text = _fit(text, font, width - x - 2 * size)
        draw.text((x + 1.7 * size, y + height / 2), text, BLACK, font, anchor='lm')
    return np.asarray(image)


def _overlay(image: np.ndarray, colors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours the known pixels of a picture; returns it enlarged."""
    picture, known = enlarge(image), _repeat(known)
    picture[known] = (0.4 * picture[known] + 0.6 * _repeat(colors)[known]).astype(np.uint8)
    return picture


def draw_class_map(image: np.ndarray, class_map: np.ndarray, classes: Classes) -> np.ndarray:
    """Colours each pixel by its class, with a legend of the classes by their share.

    Classes from 255 on, and those without a name if there are names, are left uncoloured.
    """
    limit = len(classes.names) or 255
    labels, counts = np.unique(class_map[class_map < limit], return_counts=True)
    colors = np.zeros((limit, 3), np.uint8)
    for label in labels:
        colors[label] = class_color(label, classes)
    known = class_map < limit
    picture = _overlay(image, colors[np.where(known, class_map, 0)], known)
    order = np.argsort(-counts, kind='stable')[:MAX_LEGEND]
    entries = [
        (f'{classes.name(labels[i])} {counts[i] / class_map.size:.0%}', tuple(colors[labels[i]]))
        for i in order
    ]
    entries = [(text, tuple(map(int, color))) for text, color in entries]
    if not entries:
        return picture
    return above(picture, _legend(entries, max(picture.shape[1], 240), _text_size(picture)))


def draw_segments(image: np.ndarray, prediction: Prediction, classes: Classes) -> np.ndarray:
    """Colours each segment by its class, with white borders and the name of its class."""
    ids, colors = prediction.segment_map, np.zeros((len(prediction.segments) + 1, 3), np.uint8)
    for segment in prediction.segments:
        colors[segment['id']] = class_color(segment['label'], classes)
    picture = _overlay(image, colors[ids], ids > 0)
    large = _repeat(ids)
    border = np.zeros(large.shape, bool)
    border[1:] |= large[1:] != large[:-1]
    border[:, 1:] |= large[:, 1:] != large[:, :-1]
    picture[border] = 255
    size = _text_size(picture)
    canvas = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(canvas), _font(size)
    for segment in prediction.segments:
        mask = np.pad((large == segment['id']).astype(np.uint8), 1)
        _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(mask, cv2.DIST_L2, 3))  # its middle
        text = classes.name(segment['label'])
        half = font.getlength(text) / 2 + size / 4
        x = np.clip(x - 1, half, max(half, canvas.width - half))
        y = np.clip(y - 1, 0.65 * size, max(0.65 * size, canvas.height - 0.65 * size))
        draw.rectangle((x - half, y - 0.65 * size, x + half, y + 0.65 * size), BLACK)
        draw.text((x, y), text, WHITE, font, anchor='mm')
    return np.asarray(canvas)


def depth_range(*maps: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and the largest known depth, (0, 1) if none is known."""
    known = np.concatenate([depth[depth > 0] for depth in maps])
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def draw_depth(depth: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draws depth from yellow (near) to dark violet (far), with a scale; unknown depth is grey."""
    gradient = colormaps['inferno_r']
    share = np.clip((depth - low) / max(high - low, 1e-6), 0, 1)
    colors = (255 * gradient(share)[..., :3]).astype(np.uint8)
    colors[depth <= 0] = UNKNOWN_DEPTH
    picture = _repeat(colors)
    width, size = picture.shape[1], _text_size(picture)
    bar = (255 * gradient(np.linspace(0, 1, width))[None, :, :3]).astype(np.uint8)
    canvas = Image.fromarray(bar.repeat(round(1.5 * size), axis=0))
    draw, font, middle = ImageDraw.Draw(canvas), _font(size), 0.75 * size
    draw.text((size / 2, middle), f'{low:.2f} m', BLACK, font, anchor='lm')
    draw.text((width - size / 2, middle), f'{high:.2f} m', WHITE, font, anchor='rm')
    return above(picture, np.full((4, width, 3), 255, np.uint8), np.asarray(canvas))


def draw_prediction(image: np.ndarray, prediction: Prediction, classes: Classes) -> np.ndarray:
    """Draws a prediction of any task on its picture."""
    if prediction.boxes is not None:
        return draw_objects(image, prediction, classes)
    if prediction.class_map is not None:
        return draw_class_map(image, prediction.class_map, classes)
    if prediction.segment_map is not None:
        return draw_segments(image, prediction, classes)
    if prediction.depth is not None:
        depth = draw_depth(prediction.depth, *depth_range(prediction.depth))
        return beside(enlarge(image), depth)
    return draw_scores(image, prediction, classes)


def draw_comparison(
    image: np.ndarray,
    truth: Prediction | None,
    prediction: Prediction,
    classes: Classes,
    score_thr: float,
) -> np.ndarray:
    """Draws a prediction beside the ground truth, if that is known, both with a title.

    Args:
        image: The picture.
        truth: The ground truth.
        prediction: The prediction of the same task.
        classes: The classes.
        score_thr: The score that the objects in the prediction have at least, for its title.
    """
    if prediction.boxes is None and prediction.labels is not None:
        return draw_scores(image, prediction, classes, truth)
    title = 'prediction'
    if prediction.boxes is not None:
        title = f'prediction, score ≥ {score_thr:g}'
        if not len(prediction.boxes):
            best = prediction.best_score
            title += ': none' if best is None else f': none (best: {best:.2g})'
    if prediction.depth is not None:
        maps = [prediction.depth] if truth is None else [prediction.depth, truth.depth]
        limits = depth_range(*maps)
        panels = [titled('picture', enlarge(image))]
        if truth is not None:
            panels.append(titled('ground truth', draw_depth(truth.depth, *limits)))
        return beside(*panels, titled(title, draw_depth(prediction.depth, *limits)))
    predicted = titled(title, draw_prediction(image, prediction, classes))
    if truth is None:
        return predicted
    return beside(titled('ground truth', draw_prediction(image, truth, classes)), predicted)
