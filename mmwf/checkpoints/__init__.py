from .matching import KeyMatch, hash_weights, load_pretrained_backbone, match_keys
from .reading import check_checkpoint, install, read_checkpoint

__all__ = [
    'KeyMatch',
    'check_checkpoint',
    'hash_weights',
    'install',
    'load_pretrained_backbone',
    'match_keys',
    'read_checkpoint',
]
