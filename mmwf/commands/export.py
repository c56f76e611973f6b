"""``mmwf export``: exports a model to ONNX or ``torch.export``."""

import argparse
from pathlib import Path

from mmwf.apis.export import check_exported, export_model
from mmwf.apis.exported import MODELS, require_onnx
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.files import format_size

from ._common import add_config_arguments

DESCRIPTION = """Export a trained model to one file that runs without this project.

A classifier maps images to class scores, a segmentor to class scores of each pixel (the whole image
at once); of a detector, backbone and neck are exported. The input is a batch of normalised images;
mean, std, channel order and class names are in the metadata of the file.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser, 'model.head.num_classes=5')
    parser.add_argument('checkpoint', help='checkpoint of the config, or released weights')
    parser.add_argument(
        '--format',
        choices=list(MODELS),
        default='onnx',
        help='onnx, or the format of torch.export (default: onnx)',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='accept any batch size, height and width (default: fixed ones)',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images, in pixels (default: that of training)',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images per batch, without --dynamic (default: 1)',
    )
    parser.add_argument(
        '--check',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='compare the file with PyTorch on random images, and remove one that differs',
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: If the model cannot be exported, or the file does not compute the same.
    """
    args = parse_args(argv)
    if args.format == 'onnx' and args.check:
        require_onnx('onnx', 'onnxscript', 'onnxruntime')
    cfg = load_config(args.config, args.cfg_options)
    module, shapes = export_model(
        cfg,
        args.checkpoint,
        args.out,
        format=args.format,
        dynamic=args.dynamic,
        shape=args.shape,
        batch_size=args.batch_size,
    )
    size = format_size(Path(args.out).stat().st_size)
    print(f'Written: {args.out} ({module.task}, {args.format}, {size})')
    if args.check:
        program = 'onnxruntime' if args.format == 'onnx' else 'the loaded program'
        print(f'Largest difference between PyTorch and {program}:')
        try:
            differences = check_exported(module, args.out, args.format, shapes)
        except UserError:
            Path(args.out).unlink(missing_ok=True)
            raise
        for shape, difference in zip(shapes, differences, strict=True):
            print(f'  {" x ".join(map(str, shape)):<20} {difference:.1e}')
