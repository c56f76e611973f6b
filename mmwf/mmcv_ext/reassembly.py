"""CARAFE upsampling, point-wise spatial attention (PSA) masks, convolution at masked pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import evaluate, gradients


def _reassemble(features: Tensor, masks: Tensor, kernel_size, group_size, scale_factor) -> Tensor:
    """Weighted sums of the k x k neighbours of each source pixel.

    Args:
        features: (B, C, H, W).
        masks: (B, G k k, sH, sW), the weights for each of G groups of channels.
        kernel_size: k.
        group_size: G.
        scale_factor: s.

    Returns:
        (B, C, sH, sW).
    """
    b, c, h, w = features.shape
    k, s = kernel_size, scale_factor
    padded = F.pad(features, [k // 2] * 4).view(b, group_size, c // group_size, h + k - 1, -1)
    masks = masks.view(b, group_size, k * k, h, s, w, s)
    out = features.new_zeros(b, group_size, c // group_size, h, s, w, s)
    for i in range(k):
        for j in range(k):
            neighbour = padded[..., i : i + h, j : j + w]
            out = out + neighbour[..., None, :, None] * masks[:, :, None, i * k + j]
    return out.reshape(b, c, h * s, w * s)


def carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor) -> None:
    """Fills ``output``, (B, C, sH, sW); shapes as in :func:`carafe_forward`."""
    args = kernel_size, group_size, scale_factor
    output.copy_(evaluate(lambda x, m: _reassemble(x, m, *args), features, masks))


def carafe_naive_backward(
    grad_output, features, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
) -> None:
    """Fills the gradients of features and masks."""
    args = kernel_size, group_size, scale_factor
    grads = gradients(lambda x, m: _reassemble(x, m, *args), [features, masks], grad_output)
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])


def carafe_forward(
    features, masks, rfeatures, routput, rmasks, output, kernel_size, group_size, scale_factor
) -> None:
    """Content-aware reassembly of features.

    Args:
        features: (B, C, H, W).
        masks: (B, G k k, sH, sW).
        rfeatures: Filled with the features, for the backward pass.
        routput: Buffer, not needed.
        rmasks: Buffer, not needed.
        output: Filled, (B, C, sH, sW).
        kernel_size: k.
        group_size: G.
        scale_factor: s.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output,
    rfeatures,
    masks,
    rgrad_output,
    rgrad_input_hs,
    rgrad_input,
    rgrad_masks,
    grad_input,
    grad_masks,
    kernel_size,
    group_size,
    scale_factor,
) -> None:
    """Fills the gradients of features and masks; the other ``rgrad`` buffers are not needed."""
    args = kernel_size, group_size, scale_factor
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, *args)


def _psa_pixels(h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask, device):
    """For each mask element: its channel, the pixels and the targets that it reaches."""
    rows = torch.arange(h_feature, device=device)
    columns = torch.arange(w_feature, device=device)
    for i in range(h_mask):
        y = rows[(rows + i >= half_h_mask) & (rows + i < h_feature + half_h_mask)]
        for j in range(w_mask):
            x = columns[(columns + j >= half_w_mask) & (columns + j < w_feature + half_w_mask)]
            pixel = (y[:, None] * w_feature + x).flatten()
            move = (i - half_h_mask) * w_feature + j - half_w_mask
            yield i * w_mask + j, pixel, pixel + move


def psamask_forward(
    input,
    output,
    psa_type,
    num_,
    h_feature,
    w_feature,
    h_mask,
    w_mask,
    half_h_mask,
    half_w_mask,
) -> None:
    """Spreads the mask of each pixel over the image.

    Args:
        input: (B, h w, H, W), for each pixel a mask centred there.
        output: Filled, (B, H W, H, W); zero where a mask does not reach.
        psa_type: 0 to collect (``output[:, target, pixel]``), 1 to distribute
            (``output[:, pixel, target]``).
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: h.
        w_mask: w.
        half_h_mask: Row of a mask's centre.
        half_w_mask: Column of a mask's centre.
    """
    masks, out = input.flatten(2), torch.zeros_like(output).flatten(2)
    sizes = h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask
    for channel, pixel, target in _psa_pixels(*sizes, input.device):
        index = (target, pixel) if psa_type == 0 else (pixel, target)
        out[:, index[0], index[1]] = masks[:, channel, pixel]
    output.copy_(out.view_as(output))


def psamask_backward(
    grad_output,
    grad_input,
    psa_type,
    num_,
    h_feature,
    w_feature,
    h_mask,
    w_mask,
    half_h_mask,
    half_w_mask,
) -> None:
    """Fills ``grad_input``, (B, h w, H, W); zero where a mask leaves the image."""
    grads, out = grad_output.flatten(2), torch.zeros_like(grad_input).flatten(2)
    sizes = h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask
    for channel, pixel, target in _psa_pixels(*sizes, grad_output.device):
        index = (target, pixel) if psa_type == 0 else (pixel, target)
        out[:, channel, pixel] = grads[:, index[0], index[1]]
    grad_input.copy_(out.view_as(grad_input))


def masked_im2col_forward(
    im, mask_h_idx, mask_w_idx, col, kernel_h, kernel_w, pad_h, pad_w
) -> None:
    """Gathers the patches of the given output pixels.

    Args:
        im: (1, C, H, W).
        mask_h_idx: Rows, (M,).
        mask_w_idx: Columns, (M,).
        col: Filled, (C kernel_h kernel_w, M).
        kernel_h: Rows of a patch.
        kernel_w: Columns of a patch.
        pad_h: Rows of zeros above and below the image.
        pad_w: Columns of zeros beside the image.
    """
    padded = F.pad(im[0], [pad_w, pad_w, pad_h, pad_h])
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, rows, columns].reshape(col.shape))


def masked_col2im_forward(col, mask_h_idx, mask_w_idx, im, height, width, channels) -> None:
    """Writes (C, M) columns to their pixels of ``im``, (1, C, H, W)."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
