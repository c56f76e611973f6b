"""``mmwf official-to-mmwf``: converts released weights to checkpoints of mmwf, or back."""

import argparse

from mmwf.apis.conversion import convert_released


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert released WeightFormer weights, for classification or image '
        'generation, to checkpoints of mmwf, or back.'
    )
    parser.add_argument(
        'src', help='released .pth or .safetensors, its URL, or hf://OWNER/NAME[@REVISION]'
    )
    parser.add_argument('dst', help='.pth to write; with --reverse also .safetensors')
    parser.add_argument(
        '--reverse', action='store_true', help='convert from mmwf to the released format instead'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    print(convert_released(args.src, args.dst, reverse=args.reverse))
