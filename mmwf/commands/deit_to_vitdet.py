"""``mmwf deit-to-vitdet``: converts a DeiT classifier to a backbone for ViTDet."""

import argparse

from mmwf.apis.conversion import convert_deit


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert an ImageNet checkpoint of DeiT to the backbone of the detection '
        'baselines.'
    )
    parser.add_argument('src', help="checkpoint of mmpretrain's ImageClassifier with a DeiT")
    parser.add_argument('dst', help='.pth to write, for model.backbone.init_cfg.checkpoint')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    print(convert_deit(args.src, args.dst))
