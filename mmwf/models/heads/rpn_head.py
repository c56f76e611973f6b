"""mmdet's region proposal network with precise scores under mixed precision."""

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead as MMDetRPNHead
from torch import Tensor


class RPNHead(MMDetRPNHead):
    """mmdet's RPNHead, with the classification layer in fp32 under autocast.

    mmdet ranks proposals by the sigmoid of its output. In bf16, scores near 1 are multiples of
    0.004, so thousands of anchors would have the same score and an arbitrary rank.

    All arguments and parameters are mmdet's.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps one level (B, C, H, W) to class scores (fp32 logits) and box deltas."""
        x = F.relu(self.rpn_conv(x))
        with torch.autocast(x.device.type, enabled=False):
            scores = self.rpn_cls(x.to(self.rpn_cls.weight.dtype))
        return scores, self.rpn_reg(x)
