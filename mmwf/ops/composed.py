"""Operations composed of others, for backends that do not fuse them. Shapes as in ``naive.py``."""

import torch.nn.functional as F


def dwconv_norm(backend, x, weight, delta, bias, norm_weight, norm_bias, eps):
    if delta is None:
        y = x + backend.dwconv2d(x, weight, bias)
    else:
        y = x + backend.dynamic_dwconv2d(x, weight, delta, bias)
    return y, F.layer_norm(y, norm_weight.shape, norm_weight, norm_bias, eps)


def mlp(backend, x, weight1, delta, bias1, weight2, bias2, approximate):
    if delta is None:
        hidden = F.linear(x, weight1.T, bias1)
    else:
        hidden = backend.dynamic_linear(x, weight1, delta, bias1)
    return F.linear(F.gelu(hidden, approximate=approximate), weight2, bias2)
