"""Feature extractors for metrics of generated images.

An extractor maps images (B, 3, H, W), uint8, RGB, on the CPU, to features (B, D) and logits
(B, classes), on the device of this process. Its ``description`` identifies it, since results of
different extractors are not comparable.
"""

import io

import torch
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmwf.checkpoints import hash_weights, match_keys, read_checkpoint
from mmwf.engine.config import load_config
from mmwf.errors import UserError
from mmwf.libraries import import_task_library


class InceptionExtractor(nn.Module):
    """The Inception v3 of FID and Inception Score: pooled features (2048) and unbiased logits.

    Network and image resizing are torch-fidelity's, which reproduce the original TensorFlow code.

    Args:
        weights: File with torch-fidelity's weights. By default they are downloaded.

    Raises:
        UserError: If the weights cannot be downloaded or read, or do not fit.
    """

    #: Whether the logits are of the classes of the generated images.
    knows_classes = False

    def __init__(self, weights: str | None = None):
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import (
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )

        try:
            state_dict = read_checkpoint(weights or URL_INCEPTION_V3)['state_dict']
            # torch-fidelity unpickles its file, so it gets the safely loaded weights instead.
            buffer = io.BytesIO()
            torch.save(state_dict, buffer)
            buffer.seek(0)
            network = FeatureExtractorInceptionV3(
                'inception-v3-compat', ['2048', 'logits_unbiased'], buffer
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f'Cannot load the Inception network: {reason}\nDownload its weights from '
                f'{URL_INCEPTION_V3} (95 MB) into {torch.hub.get_dir()}/checkpoints, or give the '
                'file: extractor=dict(type="inception", weights=FILE).'
            ) from error
        self.network = network.to(get_device())
        self.description = dict(type='inception', weights_hash=hash_weights(state_dict))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features and logits of a batch of images."""
        return self.network(images.to(get_device()))


class ClassifierExtractor(nn.Module):
    """A classifier of mmpretrain: the features before its last linear layer and its logits.

    Images are preprocessed by the config's test pipeline.

    Args:
        config: Config file of the classifier.
        checkpoint: Its weights, as in :func:`mmwf.checkpoints.read_checkpoint`.
        image_size: Side in pixels to which images are first resized (bicubic), for a classifier
            whose pipeline does not resize; None for no resizing.

    Raises:
        UserError: If one of the files is missing, or the weights do not fit the config.
    """

    knows_classes = True

    def __init__(self, config: str, checkpoint: str, image_size: int | None = None):
        super().__init__()
        try:
            cfg = load_config(config)
            state_dict = read_checkpoint(checkpoint)['state_dict']
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f'Cannot load the classifier of generated images: {error}\nTrain it '
                f'with python tools/train.py {config}, or change extractor.config and '
                'extractor.checkpoint.'
            ) from error
        import_task_library(cfg)
        from mmcv.transforms import Compose
        from mmpretrain.registry import MODELS

        with DefaultScope.overwrite_default_scope('mmpretrain'):
            cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
            self.model = MODELS.build(cfg.model).eval()
            pipeline = cfg.test_dataloader.dataset.pipeline[1:]  # without the loading of a file
            if image_size:
                size = (image_size, image_size)
                pipeline = [dict(type='Resize', scale=size, interpolation='bicubic'), *pipeline]
            self.pipeline = Compose(pipeline)
        match = match_keys(self.model.state_dict(), state_dict)
        if not match.is_exact:
            raise UserError(f'{checkpoint} does not fit {config}: {match}.')
        self.model.load_state_dict(state_dict)
        self.model.to(get_device())  # Module.to of self would not move the data preprocessor
        self.description = dict(
            type='classifier',
            config=config,
            checkpoint=checkpoint,
            image_size=image_size,
            weights_hash=hash_weights(self.model.state_dict()),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features and logits of a batch of images."""
        inputs = torch.stack([self._prepare(image) for image in images])
        inputs = self.model.data_preprocessor(dict(inputs=inputs))['inputs']
        features = self.model.extract_feat(inputs)
        return self.model.head.pre_logits(features), self.model.head(features)

    def _prepare(self, image: Tensor) -> Tensor:
        array = image.flip(0).permute(1, 2, 0).contiguous().numpy()  # BGR, like mmcv
        shape = array.shape[:2]
        return self.pipeline(dict(img=array, img_shape=shape, ori_shape=shape))['inputs']


#: The extractors by the ``type`` in a config.
EXTRACTORS = {'inception': InceptionExtractor, 'classifier': ClassifierExtractor}


def build_extractor(cfg: dict) -> nn.Module:
    """Builds an extractor from a config.

    Args:
        cfg: ``type``, one of ``EXTRACTORS``, and the arguments of that class.

    Raises:
        UserError: If the type is unknown, or the files of the extractor are missing or do not fit.
    """
    settings = dict(cfg)
    kind = settings.pop('type', None)
    if kind not in EXTRACTORS:
        raise UserError(f'Expected extractor.type to be one of {list(EXTRACTORS)}, got {kind!r}.')
    return EXTRACTORS[kind](**settings).requires_grad_(False)
