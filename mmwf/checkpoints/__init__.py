from .matching import (
    KeyMatch,
    check_pretrained,
    hash_weights,
    is_pretrained,
    load_pretrained_backbone,
    match_keys,
)
from .reading import check_checkpoint, install, read_checkpoint

__all__ = [
    'KeyMatch',
    'check_checkpoint',
    'check_pretrained',
    'hash_weights',
    'install',
    'is_pretrained',
    'load_pretrained_backbone',
    'match_keys',
    'read_checkpoint',
]
