"""Comparing the weights of a checkpoint with those of a model, and loading them strictly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmwf.errors import UserError

from .reading import read_checkpoint


@dataclass
class KeyMatch:
    """How the weights of a checkpoint match a model.

    Attributes:
        num_expected: Number of weights of the model.
        num_matched: Number of those that the checkpoint has with the same shape.
        missing: Keys of the model that the checkpoint lacks.
        unexpected: Keys of the checkpoint that the model lacks.
        mismatched: Keys with different shapes, each followed by the two shapes.
    """

    num_expected: int
    num_matched: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether all keys and shapes match."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self):
        parts = [f'{self.num_matched} of {self.num_expected} keys matched']
        for name in ('missing', 'unexpected', 'mismatched'):
            keys = getattr(self, name)
            if keys:
                more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
                parts.append(f'{name}: {", ".join(keys[:3])}{more}')
        return '; '.join(parts)


def match_keys(expected: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> KeyMatch:
    """Compares the keys and shapes of a checkpoint with those of a model.

    Args:
        expected: State dict of the model.
        state_dict: State dict of the checkpoint.
    """
    mismatched = [
        f'{key} {tuple(state_dict[key].shape)} (expected {tuple(value.shape)})'
        for key, value in expected.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    missing = [key for key in expected if key not in state_dict]
    return KeyMatch(
        num_expected=len(expected),
        num_matched=len(expected) - len(missing) - len(mismatched),
        missing=missing,
        unexpected=[key for key in state_dict if key not in expected],
        mismatched=mismatched,
    )


def load_pretrained_backbone(backbone: nn.Module, path: str, prefix: str | None = None) -> None:
    """Loads the weights of a backbone, or of a model with this backbone, and logs the match.

    Args:
        backbone: The model that gets the weights.
        path: As in :func:`read_checkpoint`.
        prefix: Prefix of the backbone's keys in the checkpoint. Default: ``'backbone.'`` if there
            are such keys, else none.

    Raises:
        UserError: If keys or shapes differ. The checkpoint may have a head, and a last norm even if
            the backbone has none (``final_norm=False``).
    """
    state_dict = read_checkpoint(path)['state_dict']
    if prefix is None:
        prefix = 'backbone.' if any(k.startswith('backbone.') for k in state_dict) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    state_dict = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    match = match_keys(backbone.state_dict(), state_dict)
    left_over = [key for key in match.unexpected if not key.startswith(('norm.', 'head.'))]
    if match.missing or match.mismatched or left_over:
        raise UserError(
            f'{path} does not fit this {type(backbone).__name__}: {match}. Expected a checkpoint '
            'with the same arch, dynamic blocks and predictors.'
        )
    backbone.load_state_dict(
        {key: value for key, value in state_dict.items() if key not in match.unexpected}
    )
    print_log(f'{path}: {match}.', logger='current')


def hash_weights(state_dict: Mapping[str, Tensor]) -> str:
    """Returns a hash of the weights, 16 hexadecimal digits; the order of the keys is ignored."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        value = state_dict[key].detach().cpu().contiguous()
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
