"""Networks that describe images by features and class scores, for metrics of generated images.

An extractor maps images (B, 3, H, W), uint8 as RGB, on the CPU, to features (B, D) and logits
(B, classes), on the device of this process. Its ``description`` tells what it is: figures of two
extractors cannot be compared.
"""

import io

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmwf.checkpoint import hash_weights, match_keys, read_checkpoint
from mmwf.errors import UserError
from mmwf.libraries import import_task_library


class InceptionExtractor(nn.Module):
    """The Inception v3 of FID and Inception Score: pooled features (2048), unbiased logits.

    Its network and its way to resize images are torch-fidelity's, made to agree with TensorFlow's.

    Args:
        weights: File with torch-fidelity's weights. By default they are downloaded.

    Raises:
        UserError: If the weights cannot be had, or do not fit; the message says what to fetch.
    """

    #: Whether the logits belong to the classes of the data.
    knows_classes = False

    def __init__(self, weights: str | None = None):
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import (
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )

        try:
            state_dict = read_checkpoint(weights or URL_INCEPTION_V3)['state_dict']
            # torch-fidelity would unpickle whatever is in the file.
            buffer = io.BytesIO()
            torch.save(state_dict, buffer)
            buffer.seek(0)
            network = FeatureExtractorInceptionV3(
                'inception-v3-compat', ['2048', 'logits_unbiased'], buffer
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f'Cannot load the Inception network: {reason}\nFetch its weights from '
                f'{URL_INCEPTION_V3} (95 MB), and put them into {torch.hub.get_dir()}/checkpoints, '
                'or name the file: extractor=dict(type="inception", weights=FILE).'
            ) from error
        self.network = network.to(get_device())
        self.description = dict(type='inception', weights_hash=hash_weights(state_dict))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Describes images."""
        return self.network(images.to(get_device()))


class ClassifierExtractor(nn.Module):
    """A classifier of mmpretrain: the features before its last linear layer, and its logits.

    Images go through the config's test pipeline.

    Args:
        config: Its config file.
        checkpoint: Its weights, as in :func:`mmwf.checkpoint.read_checkpoint`.
        image_size: Side to which images are resized first (bicubic), for a classifier whose
            pipeline takes images as they are; None for no resizing.

    Raises:
        UserError: If one of the files is missing, or the weights do not fit the config.
    """

    knows_classes = True

    def __init__(self, config: str, checkpoint: str, image_size: int | None = None):
        super().__init__()
        try:
            cfg = Config.fromfile(config)
            state_dict = read_checkpoint(checkpoint)['state_dict']
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f'The classifier that judges the images cannot be loaded: {error}\nTrain it '
                f'with python tools/train.py {config}, or change extractor.config and '
                'extractor.checkpoint.'
            ) from error
        import_task_library(cfg)
        from mmcv.transforms import Compose
        from mmpretrain.registry import MODELS

        with DefaultScope.overwrite_default_scope('mmpretrain'):
            cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
            self.model = MODELS.build(cfg.model).eval()
            pipeline = cfg.test_dataloader.dataset.pipeline[1:]  # the first step reads a file
            if image_size:
                size = (image_size, image_size)
                pipeline = [dict(type='Resize', scale=size, interpolation='bicubic'), *pipeline]
            self.pipeline = Compose(pipeline)
        match = match_keys(self.model.state_dict(), state_dict)
        if not match.is_exact:
            raise UserError(f'{checkpoint} does not fit {config}: {match}.')
        self.model.load_state_dict(state_dict)
        self.model.to(get_device())  # not left to the caller: a data preprocessor would stay behind
        self.description = dict(
            type='classifier',
            config=config,
            checkpoint=checkpoint,
            image_size=image_size,
            weights_hash=hash_weights(self.model.state_dict()),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Describes images."""
        inputs = torch.stack([self._prepare(image) for image in images])
        inputs = self.model.data_preprocessor(dict(inputs=inputs))['inputs']
        features = self.model.extract_feat(inputs)
        return self.model.head.pre_logits(features), self.model.head(features)

    def _prepare(self, image: Tensor) -> Tensor:
        array = image.flip(0).permute(1, 2, 0).contiguous().numpy()  # BGR, as mmcv reads files
        shape = array.shape[:2]
        return self.pipeline(dict(img=array, img_shape=shape, ori_shape=shape))['inputs']


#: The kinds of extractors, by the ``type`` in a config.
EXTRACTORS = {'inception': InceptionExtractor, 'classifier': ClassifierExtractor}


def build_extractor(cfg: dict) -> nn.Module:
    """Builds an extractor from a config.

    Args:
        cfg: ``type``, one of ``EXTRACTORS``, and the arguments of that class.

    Raises:
        UserError: If the type is unknown, or its files cannot be had.
    """
    settings = dict(cfg)
    kind = settings.pop('type', None)
    if kind not in EXTRACTORS:
        raise UserError(f'Expected extractor.type to be one of {list(EXTRACTORS)}, got {kind!r}.')
    return EXTRACTORS[kind](**settings).requires_grad_(False)
