"""Functions for Python users: loading, predicting, sampling and converting models."""

from .conversion import convert_deit, convert_released
from .features import extract_features
from .generation import sample
from .inference import init_model
from .inferencer import Inferencer
from .models import get_model

__all__ = [
    'Inferencer',
    'convert_deit',
    'convert_released',
    'extract_features',
    'get_model',
    'init_model',
    'sample',
]
