"""Exporting models to ONNX and to ``torch.export``, for programs without this project.

Shapes: B images, (B, 3, height, width).
"""

import io
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmwf import ops
from mmwf.analysis.backbone import input_shape
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.files import write_bytes
from mmwf.version import __version__

from .export_pooling import ExportPooling
from .exported import METADATA, MODELS, quiet_export, require_onnx
from .inference import init_model

#: For each library the task, its models, and what they output.
TASKS = {
    'mmpretrain': ('classification', 'ImageClassifier', '(batch, classes), before the softmax'),
    'mmseg': (
        'segmentation',
        'EncoderDecoder',
        '(batch, classes, height, width), of the whole image, before the softmax',
    ),
    'mmdet': ('features', None, 'the feature pyramid, (batch, channels, h, w), finest level first'),
}
#: Patches that height and width have at least, in a file for all sizes.
MIN_PATCHES = {'classification': 4, 'segmentation': 8, 'features': 8}
#: Largest difference from PyTorch, relative to the largest output if that is above 1.
TOLERANCE = 1e-4


class Exportable(nn.Module):
    """The parts of a model that are exported: backbone, neck and, unless it detects, its head."""

    def __init__(self, model: nn.Module, task: str):
        super().__init__()
        self.task = task
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        if task != 'features':
            self.head = model.head if task == 'classification' else model.decode_head

    @property
    def min_size(self) -> int:
        """Smallest height and width of a file for all sizes, in pixels."""
        return MIN_PATCHES[self.task] * getattr(self.backbone, 'patch_size', 16)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps normalised images to the outputs described in ``TASKS``."""
        x = self.neck(self.backbone(images))
        if self.task == 'features':
            return tuple(x)
        logits = self.head(x)
        if self.task == 'segmentation':
            size, align_corners = images.shape[2:], self.head.align_corners
            logits = F.interpolate(logits, size, mode='bilinear', align_corners=align_corners)
        return (logits,)


def build_exportable(cfg: Config, checkpoint: str | None = None) -> tuple[Exportable, dict]:
    """Builds the part of a model that can be exported, on the CPU.

    Args:
        cfg: A config of a classifier, a segmentor or a detector.
        checkpoint: As in :func:`.init_model`.

    Returns:
        The module, and the metadata of its files.

    Raises:
        UserError: If the model is of another kind, or as in :func:`.init_model`.
    """
    scope, model_type = cfg.get('default_scope'), cfg.get('model', {}).get('type')
    if scope not in TASKS or TASKS[scope][1] not in (None, model_type):
        raise UserError(
            'Expected a config of an ImageClassifier (mmpretrain), an EncoderDecoder (mmseg) or a '
            f'detector (mmdet), got {model_type} ({scope}).'
        )
    task, _, outputs = TASKS[scope]
    cfg.model.backbone.pop('compile', None)
    model = init_model(cfg, checkpoint, device='cpu')
    if task == 'segmentation' and not hasattr(model.decode_head, 'align_corners'):
        raise UserError(
            'Expected a decode head that computes the class scores of pixels, got '
            f'{type(model.decode_head).__name__}.'
        )
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    metadata = dict(
        task=task,
        outputs=outputs,
        config=Path(cfg.filename or '').name,
        classes=(model.dataset_meta or {}).get('classes'),
        # The usual division of work: the graph starts from normalised images.
        input='(pixels - mean) / std, with pixels from 0 to 255',
        channels='RGB' if settings.get('to_rgb') or settings.get('bgr_to_rgb') else 'BGR',
        mean=list(settings.get('mean') or [0, 0, 0]),
        std=list(settings.get('std') or [1, 1, 1]),
        mmwf=__version__,
        torch=torch.__version__,
    )
    return Exportable(model, task).eval(), metadata


def _dynamic_dims(module: Exportable) -> dict:
    low = module.min_size
    return {0: Dim('batch'), 2: Dim('height', min=low), 3: Dim('width', min=low)}


def trace(module: nn.Module, images: Tensor, dynamic: bool = False) -> ExportedProgram:
    """Traces a module with ``torch.export``.

    Args:
        module: From :func:`build_exportable`, or any other that is not dynamic.
        images: Example of the input.
        dynamic: Whether the program accepts any batch size, and any height and width from
            ``module.min_size``.

    Raises:
        UserError: If ``torch.export`` cannot trace the module.
    """
    dims = _dynamic_dims(module) if dynamic else None
    try:
        with ops.use_backend('portable'), ExportPooling(), torch.no_grad(), quiet_export():
            program = torch.export.export(module, (images,), dynamic_shapes=(dims,), strict=False)
            return program.run_decompositions({})  # without autocast, which cannot be saved
    except Exception as error:  # of any type
        reason = ' '.join(str(error).split())[:300]
        kind = ' for all sizes (torch 2.11 is tested, 2.6 cannot)' * dynamic
        raise UserError(
            f'torch.export of torch {torch.__version__} cannot trace this model{kind}: {reason}'
        ) from error


def to_onnx(
    program: ExportedProgram,
    names: list[str] | None = None,
    dims: dict | None = None,
    metadata: dict | None = None,
) -> bytes:
    """Converts a traced program to the content of an ONNX file.

    Args:
        program: From :func:`trace`.
        names: Names of the outputs.
        dims: The dynamic dimensions of the input.
        metadata: What is written into the file.
    """
    with quiet_export():
        result = torch.onnx.export(
            program,
            input_names=['images'],
            output_names=names,
            dynamic_shapes=(dims,) if dims else None,
            verbose=False,
            dynamo=True,
        )
    proto = result.model_proto
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    return proto.SerializeToString()


def _to_torch(program: ExportedProgram, metadata: dict) -> bytes:
    """Converts a traced program to the content of a file of ``torch.export``."""
    buffer = io.BytesIO()
    with quiet_export():
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata)})
    return buffer.getvalue()


def export_model(
    config: str | Path | Config,
    checkpoint: str | None,
    out: str | Path,
    *,
    format: str = 'onnx',
    dynamic: bool = False,
    shape: tuple[int, int] | None = None,
    batch_size: int = 1,
) -> tuple[Exportable, list[tuple[int, ...]]]:
    """Exports a model to one file, whose metadata say how to normalise images.

    Args:
        config: As in :func:`.init_model`.
        checkpoint: As in :func:`.init_model`.
        out: The file.
        format: ``'onnx'`` or ``'torch-export'``, which ``torch.export.load`` reads.
        dynamic: Whether the file accepts any batch size, height and width.
        shape: Height and width of the images, in pixels. Default: those of training.
        batch_size: Images per batch of a file that is not dynamic.

    Returns:
        The module that was exported, and shapes of inputs to check the file with.

    Raises:
        UserError: If the model cannot be exported, packages for ONNX are not installed, the shape
            is too small, or as in :func:`.init_model`.
    """
    if format == 'onnx':
        require_onnx('onnx', 'onnxscript')
    cfg = config if isinstance(config, Config) else load_config(config)
    height, width = shape or input_shape(cfg)
    module, metadata = build_exportable(cfg, checkpoint)
    smallest = module.min_size if dynamic else 1
    if min(height, width) < smallest or batch_size < 1:
        raise UserError(
            f'Expected images of at least {smallest} x {smallest} pixels and a batch size of at '
            f'least 1, got {height} x {width} and {batch_size}.'
        )
    metadata['shape'] = [batch_size, 3, height, width]
    inputs = [(batch_size, 3, height, width)]
    if dynamic:
        metadata['shape'] = ['batch', 3, 'height', 'width']
        metadata['min_size'] = smallest
        # Square or not, and with a last patch that is not whole.
        sizes = (height, width), (height + 8, width + 32), (height + 21, width + 3)
        inputs = [(b, 3, *size) for size in sizes for b in (1, 3)]
    images = torch.zeros(inputs[-1])
    with torch.no_grad():
        count = len(module(images))
    names = [f'level_{i}' for i in range(count)] if module.task == 'features' else ['logits']
    metadata['names'] = names
    program = trace(module, images, dynamic)
    if format == 'onnx':
        content = to_onnx(program, names, _dynamic_dims(module) if dynamic else None, metadata)
    else:
        content = _to_torch(program, metadata)
    write_bytes(out, content)
    return module, inputs


@torch.no_grad()
def check_exported(
    module: nn.Module, path: str | Path, format: str, shapes: list[tuple[int, ...]]
) -> list[float]:
    """Compares an exported file with its module in PyTorch, on random images.

    Args:
        module: The module that was exported.
        path: The file.
        format: Its format.
        shapes: Shapes of the inputs.

    Returns:
        The largest difference of any output for each shape.

    Raises:
        UserError: If one is above ``TOLERANCE``, relative to the largest output if that is above 1.
    """
    exported = MODELS[format](path)
    generator = torch.Generator().manual_seed(0)
    differences = []
    for shape in shapes:
        images = torch.randn(shape, generator=generator)
        pairs = list(zip(module(images), exported(images), strict=True))
        difference = max((actual - expected).abs().max().item() for expected, actual in pairs)
        bound = TOLERANCE * max(1.0, *(expected.abs().max().item() for expected, _ in pairs))
        if not difference <= bound:  # also NaN
            size = ' x '.join(map(str, shape))
            raise UserError(
                f'{path} differs from PyTorch by {difference:.2g} on {size}; expected at most '
                f'{bound:.2g}.'
            )
        differences.append(difference)
    return differences
