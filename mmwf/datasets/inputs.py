"""The pictures that a user names: files, folders, patterns, web addresses and videos."""

import glob
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import cv2
import numpy as np

from mmwf.checkpoints.download import is_url
from mmwf.errors import UserError

from .images import IMAGE_SUFFIXES, list_images

#: Files that are read frame by frame. Which of them OpenCV can read depends on its build.
VIDEO_SUFFIXES = ('.avi', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')


@dataclass(frozen=True)
class Source:
    """A picture or a video.

    Attributes:
        path: Its file or web address.
        name: Relative path for what is written about it; sources may share it (:class:`Names`).
    """

    path: str
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is read frame by frame."""
        return Path(self.name).suffix.lower() in VIDEO_SUFFIXES


class Names:
    """Gives out names of files, none of them twice, not even with letters of another case."""

    def __init__(self):
        self._taken = set()

    def take(self, name: str) -> str:
        """Returns ``name``, or ``STEM_2.SUFFIX`` and so on if it has been taken."""
        stem, suffix = os.path.splitext(name)
        free, number = name, 1
        while free.casefold() in self._taken:
            number += 1
            free = f'{stem}_{number}{suffix}'
        self._taken.add(free.casefold())
        return free


def _expand(text: str) -> list[Source]:
    """Returns the sources behind one argument."""
    if is_url(text):
        name = PurePosixPath(urlparse(text).path).name
        return [Source(text, 'picture' if name in ('', '..') else name)]
    path = Path(text).expanduser()
    if path.is_file():
        return [Source(str(path), path.name)]
    if path.is_dir():
        found, root = [p for p in list_images(path) if p.is_file()], path
        found = [p for p in found if not any(n.startswith('.') for n in p.relative_to(path).parts)]
        if not found:
            raise UserError(f'There are no images ({", ".join(IMAGE_SUFFIXES)}) in {path}.')
    elif glob.has_magic(text):
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))
        suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
        found = [p for p in matches if p.is_file() and p.suffix.lower() in suffixes]
        if not found:
            raise UserError(f'No image or video matches {text}.')
        root = path
        while glob.has_magic(str(root)):
            root = root.parent
    else:
        raise UserError(f'There is no file or folder {path} (looked at {path.absolute()}).')
    return [Source(str(p), p.relative_to(root).as_posix()) for p in found]


def find_sources(inputs: Sequence[str], exclude: str | Path | None = None) -> list[Source]:
    """Finds pictures and videos.

    Args:
        inputs: Files; folders, whose images are taken, also those in sub-folders, but none whose
            name or folder begins with a dot; patterns with ``*``, ``?``, ``[...]`` or ``**``;
            addresses ``http(s)://...``.
        exclude: A folder inside which nothing is taken, such as that of the output.

    Returns:
        The sources, each file once.

    Raises:
        UserError: If there is no such file, or a folder or pattern has no picture.
    """
    excluded = Path(exclude).resolve() if exclude else None
    sources = {}
    for text in inputs:
        for source in _expand(str(text)):
            key = source.path if is_url(source.path) else Path(source.path).resolve()
            if not excluded or is_url(source.path) or excluded not in key.parents:
                sources.setdefault(key, source)
    if not sources:
        raise UserError(f'All of {", ".join(map(str, inputs))} is in {exclude}, the output folder.')
    return list(sources.values())


@contextmanager
def _local_file(source: Source) -> Iterator[str]:
    """Yields a local file with the content of a source."""
    if not is_url(source.path):
        yield source.path
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / f'download{Path(source.name).suffix}'
        try:
            with (
                urllib.request.urlopen(source.path, timeout=60) as response,
                file.open('wb') as out,
            ):
                shutil.copyfileobj(response, out)
        except (OSError, HTTPException, ValueError) as error:
            raise UserError(f'Cannot download {source.path}: {error}.') from error
        yield str(file)


def _read_video(path: str, step: int) -> Iterator[tuple[int, np.ndarray]]:
    capture = cv2.VideoCapture(path)
    try:
        index = 0
        while capture.grab():
            if index % step == 0:
                readable, image = capture.retrieve()
                if readable:
                    yield index, image
            index += 1
    finally:
        capture.release()
    if not index:
        raise UserError(
            f'Cannot read the video {path}: OpenCV finds no frames in it. Convert it, for example '
            'with ffmpeg to .mp4, or extract its frames.'
        )


def read_source(
    source: Source, load: Callable[[str], np.ndarray], frame_step: int = 1
) -> Iterator[tuple[int | None, np.ndarray]]:
    """Reads a picture, or the frames of a video.

    Args:
        source: As :func:`find_sources` returns it.
        load: Reads an image file, (height, width, 3), BGR.
        frame_step: Only every ``frame_step``-th frame of a video is returned.

    Yields:
        The index of the frame, None for a picture, and the image.

    Raises:
        UserError: If it cannot be read.
    """
    with _local_file(source) as path:
        try:
            if source.is_video:
                yield from _read_video(path, frame_step)
            else:
                yield None, load(path)
        except UserError as error:  # a download has a temporary name
            raise UserError(str(error).replace(path, source.path)) from error
