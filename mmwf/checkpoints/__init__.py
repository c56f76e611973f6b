from .matching import KeyMatch, check_pretrained, hash_weights, load_pretrained_backbone, match_keys
from .reading import check_checkpoint, install, read_checkpoint

__all__ = [
    'KeyMatch',
    'check_checkpoint',
    'check_pretrained',
    'hash_weights',
    'install',
    'load_pretrained_backbone',
    'match_keys',
    'read_checkpoint',
]
