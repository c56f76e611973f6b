"""``mmwf features``: writes the features of pictures to a file."""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from tqdm import tqdm

from mmwf.apis.features import TokenReader, average
from mmwf.apis.inference import init_model
from mmwf.apis.loading import ImagePipeline, Picture, in_batches, read_pictures
from mmwf.datasets.inputs import Names
from mmwf.errors import UserError
from mmwf.files import atomic_write, write_bytes, write_json
from mmwf.visualization.saving import picture_name, save_picture
from mmwf.visualization.tokens import TokenPictures

from ._pictures import Failures, add_picture_arguments, count_pictures, read_picture_arguments

DESCRIPTION = """Write the features of pictures that a WeightFormer computes: one row for each
picture, the mean over its tokens.

The pictures go through the test pipeline of the config. A .json file beside FILE lists the pictures
in the order of the rows. A .npy file has the layers side by side, in the columns that the .json
file gives; a .safetensors file has an array for each layer, and with --tokens one for each layer
and row, LAYER/ROW.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_picture_arguments(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='file to write, NAME.npy or NAME.safetensors; NAME.json lists the pictures',
    )
    parser.add_argument(
        '--layers',
        nargs='+',
        default=['norm'],
        metavar='LAYER',
        help="layers to read: blocks from 0, or from -1 backwards, or 'norm', the output of the "
        'backbone (default: norm)',
    )
    parser.add_argument(
        '--tokens',
        action='store_true',
        help='write all tokens, (height, width, channels) for each picture, in place of their mean',
    )
    parser.add_argument(
        '--pca',
        metavar='DIR',
        help='draw the first three principal components of the tokens of the last layer in '
        '--layers as colours, beside each picture, into DIR',
    )
    return parser.parse_intermixed_args(argv)


def write_features(
    path: Path, layers: list[str], rows: list[dict[str, np.ndarray]], tokens: bool
) -> dict[str, list[int]]:
    """Writes features to a ``.npy`` or ``.safetensors`` file.

    Args:
        path: The file.
        layers: The names of the layers.
        rows: For each picture the features of each layer.
        tokens: Whether the features are maps, not vectors.

    Returns:
        The first and the last column, exclusive, of each layer, for ``.npy``.

    Raises:
        UserError: If maps of different sizes cannot be in one array.
    """
    if path.suffix == '.safetensors':
        if tokens:
            arrays = {f'{name}/{i}': row[name] for i, row in enumerate(rows) for name in layers}
        else:
            arrays = {name: np.stack([row[name] for row in rows]) for name in layers}
        write_bytes(path, save(arrays))
        return {}
    shapes = {row[layers[0]].shape for row in rows}
    if len(shapes) > 1:
        raise UserError(
            f'The pictures have maps of {len(shapes)} sizes, which a .npy file cannot hold. Use '
            '--out FILE.safetensors, or omit --tokens.'
        )
    array = np.stack([np.concatenate([row[name] for name in layers], axis=-1) for row in rows])
    with atomic_write(path, array.nbytes) as file:
        np.save(file, array)
    ends = np.cumsum([rows[0][name].shape[-1] for name in layers]).tolist()
    return dict(zip(layers, map(list, zip([0, *ends], ends)), strict=True))  # noqa: B905


class PcaFolder:
    """Draws the tokens of pictures into a folder."""

    def __init__(self, folder: str | None):
        self.folder, self.names, self.painter = folder, Names(), TokenPictures()

    def add(self, picture: Picture, tokens: np.ndarray) -> None:
        """Draws the tokens of a picture, (H, W, C), perhaps later."""
        if self.folder:
            name = picture.source.name
            if picture.frame is not None:
                name = f'{Path(name).with_suffix("")}/{picture.frame:06d}.png'
            name = self.names.take(picture_name(name))
            image = np.ascontiguousarray(picture.image[..., ::-1]).astype(np.uint8)
            self._save(self.painter.add(name, image, tokens))

    def finish(self) -> None:
        """Draws what has not been drawn yet."""
        self._save(self.painter.flush())

    def _save(self, drawn: list[tuple[str, np.ndarray]]) -> None:
        for name, image in drawn:
            save_picture(Path(self.folder) / name, image)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = parse_args(argv)
    out = Path(args.out)
    if out.suffix not in ('.npy', '.safetensors'):
        raise UserError(f'Expected --out FILE.npy or FILE.safetensors, got {out}.')
    cfg, sources = read_picture_arguments(args, args.pca)
    pipeline = ImagePipeline(cfg)
    reader = TokenReader(init_model(cfg, args.checkpoint), args.layers)
    failures, pca, rows = Failures(), PcaFolder(args.pca), []
    pictures = tqdm(
        read_pictures(sources, pipeline, failures, args.frame_step),
        total=count_pictures(sources),
        unit='picture',
    )
    order = {source.path: i for i, source in enumerate(sources)}
    for batch in in_batches(pictures, pipeline, args.batch_size, failures):
        features = reader([packed for _, packed in batch])
        for (picture, _), maps in zip(batch, features, strict=True):
            pca.add(picture, maps[reader.layers[-1]].numpy())
            kept = maps if args.tokens else average(maps)
            place = order[picture.source.path], picture.frame or 0
            entry = dict(input=picture.source.path)
            if picture.frame is not None:
                entry['frame'] = picture.frame
            rows.append((place, entry, {name: value.numpy() for name, value in kept.items()}))
    pca.finish()
    rows.sort(key=lambda row: row[0])
    record = out.with_suffix('.json')
    columns = {}
    if rows:
        columns = write_features(out, reader.layers, [row[-1] for row in rows], args.tokens)
    write_json(
        record,
        dict(
            config=str(args.config),
            checkpoint=args.checkpoint,
            layers=reader.layers,
            columns=columns,
            rows=[entry for _, entry, _ in rows],
            failed=failures.entries,
        ),
    )
    print(f'{len(rows)} pictures, layers {", ".join(reader.layers)}: {out}, {record}')
    failures.check(len(sources), str(record))
