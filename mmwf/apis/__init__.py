"""Functions for Python users: loading, sampling and converting models."""

from .conversion import convert_deit, convert_released
from .generation import sample
from .inference import init_model

__all__ = ['convert_deit', 'convert_released', 'init_model', 'sample']
