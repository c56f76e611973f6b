"""Exports a model to ONNX or torch.export; see --help."""

from mmwf.commands import run

if __name__ == '__main__':
    run('export')
