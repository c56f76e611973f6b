"""Running exported models, in onnxruntime or PyTorch."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from mmwf.errors import UserError

METADATA = 'metadata.json'  # inside a file of torch.export


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Hides the warnings of ``torch.export`` about its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def require_onnx(*packages: str) -> None:
    """Checks that packages for ONNX can be imported.

    Raises:
        UserError: If one cannot, with the command that installs it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f'ONNX needs {" and ".join(missing)}, not installed here. Run: '
            'pip install "mmwf[export]"'
        )


class OnnxModel(nn.Module):
    """An ONNX file, run by onnxruntime on the CPU with as many threads as PyTorch uses.

    Args:
        path: The file.

    Attributes:
        metadata: What :func:`.export_model` wrote about the model.

    Raises:
        UserError: If onnxruntime is not installed or cannot read the file.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        require_onnx('onnxruntime')
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # its errors have no base class of their own
            raise UserError(f'onnxruntime cannot read {path}: {error}') from error
        entries = self.session.get_modelmeta().custom_metadata_map
        self.metadata = {key: json.loads(value) for key, value in entries.items()}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps normalised images (B, 3, height, width) to the outputs of the model."""
        name = self.session.get_inputs()[0].name
        outputs = self.session.run(None, {name: images.detach().numpy()})
        return tuple(map(torch.from_numpy, outputs))


class TorchModel(nn.Module):
    """A file of ``torch.export``.

    Args:
        path: The file.

    Attributes:
        metadata: What :func:`.export_model` wrote about the model.

    Raises:
        UserError: If the file cannot be read.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        files = {METADATA: ''}
        try:
            with quiet_export():
                self.program = torch.export.load(str(path), extra_files=files).module()
        except Exception as error:  # of any type
            reason = ' '.join(str(error).split())[:300]
            raise UserError(f'torch.export cannot read {path}: {reason}') from error
        self.metadata = json.loads(files[METADATA])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps normalised images (B, 3, height, width) to the outputs of the model."""
        return self.program(images)


#: What runs a file of each format.
MODELS = {'onnx': OnnxModel, 'torch-export': TorchModel}
