from .finding import (
    find_newest,
    read_pointer,
    remove_checkpoints,
    saved_checkpoints,
    write_pointer,
)
from .matching import (
    KeyMatch,
    check_pretrained,
    hash_weights,
    is_pretrained,
    load_pretrained_backbone,
    match_keys,
)
from .reading import check_checkpoint, install, read_checkpoint
from .writing import finish_digests, install_writer, save_checkpoint

__all__ = [
    'KeyMatch',
    'check_checkpoint',
    'check_pretrained',
    'find_newest',
    'finish_digests',
    'hash_weights',
    'install',
    'install_writer',
    'is_pretrained',
    'load_pretrained_backbone',
    'match_keys',
    'read_checkpoint',
    'read_pointer',
    'remove_checkpoints',
    'save_checkpoint',
    'saved_checkpoints',
    'write_pointer',
]
