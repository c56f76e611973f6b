"""Backbones in onnxruntime, for ``mmwf benchmark``."""

import tempfile
from pathlib import Path

from torch import Tensor, nn

from mmwf.analysis.named_models import build_named

from .export import to_onnx, trace
from .exported import OnnxModel


class OnnxBackbone(nn.Module):
    """A backbone that is exported to ONNX for the size of its first batch.

    Args:
        backbone: The backbone, on the CPU.
    """

    memory_is_unknown = True  # onnxruntime allocates it, not PyTorch

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone.eval()
        self.exported = None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, height, width), always of the same shape, to features."""
        if self.exported is None:
            content = to_onnx(trace(self.backbone, images))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / 'backbone.onnx'
                path.write_bytes(content)
                self.exported = OnnxModel(path)
        return self.exported(images)


def build_onnx(name: str, size: int) -> OnnxBackbone:
    """Builds a backbone by name, to be run by onnxruntime.

    Args:
        name: As in :func:`mmwf.analysis.named_models.build_named`.
        size: As in :func:`mmwf.analysis.named_models.build_named`.
    """
    return OnnxBackbone(build_named(name, size))
