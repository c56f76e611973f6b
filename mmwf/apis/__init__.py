"""Functions for Python users: loading, sampling and converting models."""

from .conversion import convert_deit, convert_released
from .generation import sample
from .inference import init_model
from .models import get_model

__all__ = ['convert_deit', 'convert_released', 'get_model', 'init_model', 'sample']
