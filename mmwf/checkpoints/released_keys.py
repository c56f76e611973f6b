"""State-dict keys: those of the released code <-> ours."""

import re
from collections.abc import Mapping

from mmwf.errors import UserError

_RELEASED_LAYERS = {'linear1': 'mlp.fc1', 'linear2': 'mlp.fc2', 'dwc': 'dwconv'}
_RELEASED_PARAMS = {  # parameters of a dynamic layer
    'w': 'weight',
    'b': 'bias',
    'w1': 'predictor.u',
    'w2': 'predictor.v',
}
_RELEASED_PREDICTORS = {'linear1': 'proj', 'linear2': 'proj', 'dwc': 'mlp'}
_RELEASED_LINEAR = r'weight|bias|w|b|w1|w2|wfm\.(weight|bias)'
_RELEASED_KEYS = {
    'linear1': _RELEASED_LINEAR,
    'linear2': _RELEASED_LINEAR,
    'dwc': r'weight|bias|w|b|wfm\.0\.(weight|bias)|wfm\.2\.weight',
}
_OUR_LAYERS = {ours: released for released, ours in _RELEASED_LAYERS.items()}
_OUR_PARAMS = {ours: released for released, ours in _RELEASED_PARAMS.items()}
_UNCHANGED = re.compile(r'(patch_embed\.proj|init_norm|norm|blocks\.\d+\.norm[12])\.(weight|bias)')
_RELEASED_DENOISER = re.compile(  # keys outside the layers of the blocks
    r'(x_embedder\.proj|t_embedder\.mlp\.[02]|final_layer\.linear'
    r'|(blocks\.\d+|final_layer)\.adaLN_modulation\.1)\.(weight|bias)'
    r'|y_embedder\.embedding_table\.weight|pos_embed'
)
_DENOISER_PARTS = {
    'x_embedder': 'patch_embed',
    't_embedder': 'time_embed',
    'y_embedder.embedding_table': 'label_embed',
    'adaLN_modulation': 'modulation',
}


def is_released(state_dict: Mapping) -> bool:
    """Returns whether the keys are those of the released code."""
    return any(re.match(r'blocks\.\d+\.(linear[12]|dwc)\.', key) for key in state_dict)


def _released_other_key(key: str, root: str) -> str | None:
    """Renames a key outside the layers of the blocks; returns None for other keys."""
    if root == 'denoiser.' and _RELEASED_DENOISER.fullmatch(key):
        for released, ours in _DENOISER_PARTS.items():
            key = key.replace(released, ours)
        return root + key
    if root == 'backbone.' and _UNCHANGED.fullmatch(key):
        return root + key
    if root == 'backbone.' and re.fullmatch(r'head\.(weight|bias)', key):
        return key.replace('head.', 'head.fc.')
    return None


def _released_key_to_mmwf(key: str, root: str) -> str:
    if other := _released_other_key(key, root):
        return other
    match = re.fullmatch(r'(blocks\.\d+)\.(linear[12]|dwc)\.(.+)', key)
    if not match or not re.fullmatch(_RELEASED_KEYS[match[2]], match[3]):
        kind = 'classifier' if root == 'backbone.' else 'denoiser'
        raise UserError(f'Unknown key {key!r}: not a released WeightFormer {kind}.')
    block, layer, param = match.groups()
    if param.startswith('wfm.'):
        param = f'predictor.{_RELEASED_PREDICTORS[layer]}.{param.removeprefix("wfm.")}'
    return f'{root}{block}.{_RELEASED_LAYERS[layer]}.{_RELEASED_PARAMS.get(param, param)}'


def released_to_mmwf(state_dict: Mapping) -> dict:
    """Renames the keys of released weights to ours.

    Returns:
        The same tensors under the keys of mmpretrain's ImageClassifier (``backbone.*``,
        ``head.fc.*``) or, for image generation, of :class:`mmwf.models.GaussianDiffusion`
        (``denoiser.*``).

    Raises:
        UserError: If a key is not one of a released model.
    """
    root = 'denoiser.' if 'x_embedder.proj.weight' in state_dict else 'backbone.'
    return {_released_key_to_mmwf(key, root): value for key, value in state_dict.items()}


def mmwf_to_released(state_dict: Mapping) -> dict:
    """Renames the keys of our models to those of the released code.

    This is the inverse of :func:`released_to_mmwf`.

    Raises:
        UserError: If a key has no counterpart in the released code.
    """
    root = 'denoiser.' if 'denoiser.patch_embed.proj.weight' in state_dict else 'backbone.'
    result = {}
    for key, value in state_dict.items():
        match = re.fullmatch(rf'{root}(blocks\.\d+)\.(mlp\.fc[12]|dwconv)\.(.+)', key)
        if match:
            block, layer, param = match.groups()
            released = _OUR_LAYERS[layer]
            is_dynamic = any(k.startswith(f'{root}{block}.{layer}.predictor.') for k in state_dict)
            if is_dynamic:
                predictor = f'predictor.{_RELEASED_PREDICTORS[released]}.'
                param = _OUR_PARAMS.get(param, param.replace(predictor, 'wfm.'))
            new_key = f'{block}.{released}.{param}'
        else:
            new_key = re.sub(r'^head\.fc\.', 'head.', key.removeprefix(root))
            if root == 'denoiser.':
                for released, ours in _DENOISER_PARTS.items():
                    new_key = new_key.replace(ours, released)
        if new_key in result or _try(_released_key_to_mmwf, new_key, root) != key:
            raise UserError(f'{key!r} has no counterpart in the released code.')
        result[new_key] = value
    return result


def _try(function, *args):
    try:
        return function(*args)
    except UserError:
        return None
