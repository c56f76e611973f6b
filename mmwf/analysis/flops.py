"""Multiply-adds and parameters of models.

The paper's "FLOPs" are multiply-adds of matrix products and convolutions for one image, with each
product evaluated in the order in which the paper writes it. They are counted while the model runs
on fake tensors, which have a shape but no data, so nothing is computed.
"""

import inspect
from collections.abc import Iterable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mmwf import ops

aten = torch.ops.aten

#: Counted operations and PyTorch's formulas for them, which give twice the multiply-adds. The
#: kernels of :mod:`mmwf.ops` add theirs to ``flop_registry`` when they are loaded.
COUNTED = {
    operation: flop_registry[operation]
    for operation in (
        aten.mm,
        aten.addmm,
        aten.bmm,
        aten.baddbmm,
        aten.convolution,
        aten._scaled_dot_product_efficient_attention,
        aten._scaled_dot_product_flash_attention,
        aten._scaled_dot_product_cudnn_attention,
    )
}
COUNTED[aten._scaled_dot_product_flash_attention_for_cpu] = COUNTED[
    aten._scaled_dot_product_flash_attention
]

#: Operations without multiply-adds by convention: norms, activations, pooling, interpolation and
#: other element-wise operations, and those that create, move or query tensors.
FREE = {
    getattr(aten, name)
    for name in """
    native_layer_norm native_batch_norm native_group_norm linalg_vector_norm
    gelu gelu_ silu relu relu_ sigmoid tanh _softmax
    avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d mean sum
    upsample_bilinear2d upsample_bicubic2d upsample_nearest2d
    add add_ sub mul mul_ div pow sqrt rsqrt clamp clamp_min exp cos sin embedding
    view _unsafe_view permute transpose t expand unsqueeze squeeze select slice split
    split_with_sizes unbind cat stack constant_pad_nd clone copy_ repeat alias detach _to_copy
    as_strided_ promote_types
    empty zeros ones arange
    """.split()  # noqa: SIM905
} | {torch.ops.prim.device}


class MultiplyAddCounter(TorchDispatchMode):
    """Counts the multiply-adds of its ``with`` block in ``total``.

    Raises:
        NotImplementedError: If an operation is neither in ``COUNTED`` nor in ``FREE``.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operation = func._overloadpacket
        out = func(*args, **kwargs)
        formula = (flop_registry if func.namespace == 'mmwf' else COUNTED).get(operation)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out) // 2
        elif operation not in FREE:
            raise NotImplementedError(
                f'The cost of {operation} is not known. Add it to COUNTED with a formula, or to '
                f'FREE, in {__name__}.'
            )
        return out


def _count(module, *inputs) -> tuple[int, object]:
    """Runs a module; returns its multiply-adds and its output."""
    with MultiplyAddCounter() as counter:
        out = module(*inputs)
    return counter.total, out


def _as_list(modules: nn.Module | Iterable[nn.Module]) -> list[nn.Module]:
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def _count_roi_heads(extractors, heads, num_boxes: int) -> int:
    """Counts box or mask heads on features of ``num_boxes`` boxes."""
    total = 0
    for extractor, head in zip(_as_list(extractors), _as_list(heads), strict=True):
        height, width = extractor.roi_layers[0].output_size
        features = torch.empty(num_boxes, extractor.out_channels, height, width)
        total += _count(head, features)[0]
    return total


def _takes_features_only(head: nn.Module) -> bool:
    """Whether a head maps features to predictions; Mask2Former's also needs the samples."""
    parameters = inspect.signature(head.forward).parameters.values()
    return sum(parameter.default is parameter.empty for parameter in parameters) == 1


def _count_heads(
    model: nn.Module, features, mask_head: bool, auxiliary_head: bool
) -> dict[str, int]:
    """Counts the heads of a detector, segmentor or classifier."""
    parts = {}
    if hasattr(model, 'roi_head'):  # mmdet's two-stage detectors
        roi_head = model.roi_head
        parts['rpn_head'] = _count(model.rpn_head, features)[0]
        parts['bbox_head'] = _count_roi_heads(
            roi_head.bbox_roi_extractor, roi_head.bbox_head, model.test_cfg.rpn.max_per_img
        )
        if mask_head and roi_head.with_mask:
            parts['mask_head'] = _count_roi_heads(
                roi_head.mask_roi_extractor, roi_head.mask_head, model.test_cfg.rcnn.max_per_img
            )
    elif hasattr(model, 'bbox_head') and hasattr(model.bbox_head, 'prior_generator'):
        parts['bbox_head'] = _count(model.bbox_head, features)[0]  # mmdet's one-stage detectors
    elif hasattr(model, 'decode_head'):  # mmseg's EncoderDecoder
        if _takes_features_only(model.decode_head):
            parts['decode_head'] = _count(model.decode_head, features)[0]
        if auxiliary_head and model.with_auxiliary_head:
            parts['auxiliary_head'] = sum(
                _count(head, features)[0] for head in _as_list(model.auxiliary_head)
            )
    elif getattr(model, 'head', None) is not None:  # mmpretrain's ImageClassifier
        parts['head'] = _count(model.head, features)[0]
    return parts


def _count_denoiser(denoiser: nn.Module) -> int:
    """Counts one prediction of a diffusion model's denoiser, without guidance."""
    side = denoiser.input_size
    x, zero = torch.empty(1, denoiser.in_channels, side, side), torch.zeros(1, dtype=torch.long)
    return _count(denoiser, x, zero, zero)[0]


def _count_parts(model: nn.Module, shape: tuple[int, int], **heads: bool) -> dict[str, int]:
    """Counts the parts of a model with a backbone."""
    parts = {}
    parts['backbone'], features = _count(model.backbone, torch.empty(1, 3, *shape))
    neck = getattr(model, 'neck', None)
    parts['neck'] = 0
    if neck is not None:
        parts['neck'], features = _count(neck, features)
    return parts | _count_heads(model, features, **heads)


def count_multiply_adds(
    model: nn.Module,
    shape: tuple[int, int],
    *,
    mask_head: bool = False,
    auxiliary_head: bool = False,
    backend: str = 'naive',
) -> dict:
    """Counts the multiply-adds of one image, as the paper does.

    Args:
        model: A classifier, detector or segmentor of mmpretrain, mmdet or mmseg, or a diffusion
            model, on the CPU. It is set to evaluation mode.
        shape: Height and width of the image. A diffusion model has its own size.
        mask_head: Whether to count a detector's mask heads. The paper does not.
        auxiliary_head: Whether to count a segmentor's auxiliary head, which is used in training
            only.
        backend: Backend of :mod:`mmwf.ops`. ``'naive'`` evaluates each product in the paper's
            order.

    Returns:
        Multiply-adds of the ``backbone``, the ``neck`` (0 if there is none) and each head, or of
        the ``denoiser`` of a diffusion model (one step without guidance); their ``total``; and
        ``params``, the number of parameters of the whole model. With an auxiliary head, also
        ``params_without_auxiliary``. Box heads run on the model's maximum number of proposals in
        testing, mask heads on its maximum number of detections. Of models whose heads need more
        than features (DINO, Mask2Former), only backbone and neck are counted.

    Raises:
        NotImplementedError: If the cost of an operation is not known.
        ValueError: If the model has neither a backbone nor a denoiser.
    """
    if not hasattr(model, 'backbone') and not hasattr(model, 'denoiser'):
        raise ValueError(
            f'Expected a model with a backbone or a denoiser, got {type(model).__name__}.'
        )
    model.eval()
    # Converts the real parameters to fake tensors on use.
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), ops.use_backend(backend), fake:
        if hasattr(model, 'denoiser'):
            parts = dict(denoiser=_count_denoiser(model.denoiser))
        else:
            parts = _count_parts(model, shape, mask_head=mask_head, auxiliary_head=auxiliary_head)
    params = sum(p.numel() for p in model.parameters())
    result = dict(parts, total=sum(parts.values()), params=params)
    auxiliary = getattr(model, 'auxiliary_head', None)
    if auxiliary is not None:
        auxiliary_params = sum(p.numel() for p in auxiliary.parameters())
        result['params_without_auxiliary'] = params - auxiliary_params
    return result
