"""Tokens as colours: their three principal components."""

import cv2
import numpy as np

from .labelled import beside, enlarge

NUM_PICTURES = 64  # that the components are computed from
MAX_SIDE = 1024  # of a picture that waits for the components


class TokenPictures:
    """Draws pictures beside the principal components of their tokens, as red, green and blue.

    The components are those of the tokens of the first 64 pictures, so that a colour means the same
    in all pictures. These are drawn once the components are known.
    """

    def __init__(self):
        self.waiting = []
        self.mean = None

    def _fit(self) -> None:
        tokens = np.concatenate([t.reshape(-1, t.shape[-1]) for _, _, t in self.waiting])
        self.mean = tokens.mean(axis=0)
        centred = (tokens - self.mean).astype(np.float64)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        vectors = vectors[:, ::-1][:, :3]
        # An eigenvector has no sign: its largest entry is positive, so that colours are repeatable.
        signs = np.sign(vectors[np.abs(vectors).argmax(0), range(vectors.shape[1])])
        self.vectors = vectors * signs
        self.low, self.high = np.percentile(centred @ self.vectors, (1, 99), axis=0)

    def _draw(self, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        values = (tokens - self.mean) @ self.vectors
        share = np.clip((values - self.low) / np.maximum(self.high - self.low, 1e-12), 0, 1)
        colors = np.zeros((*tokens.shape[:2], 3), np.uint8)
        colors[..., : share.shape[-1]] = np.round(255 * share)
        picture = enlarge(image)
        size = picture.shape[1::-1]
        return beside(picture, cv2.resize(colors, size, interpolation=cv2.INTER_NEAREST))

    def add(self, name: str, image: np.ndarray, tokens: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Adds a picture.

        Args:
            name: Its name.
            image: (height, width, 3), RGB, uint8.
            tokens: (H, W, C).

        Returns:
            The names and drawings of pictures that can be drawn now.
        """
        if self.mean is not None:
            return [(name, self._draw(image, tokens))]
        scale = MAX_SIDE / max(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self.waiting.append((name, image, tokens))
        return self.flush() if len(self.waiting) == NUM_PICTURES else []

    def flush(self) -> list[tuple[str, np.ndarray]]:
        """Returns the drawings of the pictures that wait for the components."""
        if not self.waiting:
            return []
        self._fit()
        waiting, self.waiting = self.waiting, []
        return [(name, self._draw(image, tokens)) for name, image, tokens in waiting]
