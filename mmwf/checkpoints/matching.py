"""Comparing the weights of a checkpoint with those of a model, and loading them strictly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmwf.errors import UserError

from .reading import read_checkpoint

#: Weights that are interpolated when they are loaded: position embeddings.
RESIZED = ('pos_embed', 'rel_pos_h', 'rel_pos_w')


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


def _select(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns the weights whose keys start with a prefix, without it."""
    prefix += '.' if prefix and not prefix.endswith('.') else ''
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


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
    state_dict = _select(state_dict, prefix)
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


def is_pretrained(init_cfg: Mapping | list | None) -> bool:
    """Whether an ``init_cfg`` loads a checkpoint."""
    return isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained'


def check_pretrained(module: nn.Module) -> KeyMatch:
    """Checks that the checkpoint of ``init_cfg=dict(type='Pretrained', ...)`` fits a module.

    MMEngine's initializer ignores keys that do not match, even if none matches.

    Args:
        module: A module with such an ``init_cfg``, whose keys are those of the checkpoint.

    Returns:
        The match. Position embeddings may have other shapes: they are interpolated. The checkpoint
        may have more weights, such as a head.

    Raises:
        UserError: If a weight of the module is missing in the checkpoint or has another shape.
    """
    from mmengine.runner import CheckpointLoader

    path, prefix = module.init_cfg['checkpoint'], module.init_cfg.get('prefix') or ''
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    state_dict = _select(content.get('state_dict', content), prefix)
    expected = {
        key: state_dict[key] if key.endswith(RESIZED) and key in state_dict else value
        for key, value in module.state_dict().items()
    }
    match = match_keys(expected, state_dict)
    if match.missing or match.mismatched:
        raise UserError(
            f'{path} does not fit this {type(module).__name__} (init_cfg.prefix={prefix!r}): '
            f'{match}. Expected a checkpoint of the same backbone; its keys may need conversion.'
        )
    return match


def hash_weights(state_dict: Mapping[str, Tensor]) -> str:
    """Returns a hash of the weights, 16 hexadecimal digits; the order of the keys is ignored."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        value = state_dict[key].detach().cpu().contiguous()
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
