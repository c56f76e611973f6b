"""Training and sampling of class-conditional diffusion models, on pixels or latents."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmwf.errors import UserError
from mmwf.registry import MODELS

from .noise_schedule import NUM_TIMESTEPS, build_noise_schedule
from .objective import variational_bound
from .samplers import SamplerSettings, run_sampler
from .vae import LatentDecoder


@MODELS.register_module()
class PixelPreprocessor(BaseDataPreprocessor):
    """Scales pixels to [-1, 1]."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Scales ``inputs`` from uint8 to float32 in [-1, 1], if present."""
        data = super().forward(data, training)
        if 'inputs' in data:
            data['inputs'] = data['inputs'].float() / 127.5 - 1
        return data


@MODELS.register_module()
class GaussianDiffusion(BaseModel):
    """A diffusion model, trained as in DiT.

    The noise schedule is linear with 1000 time steps; the denoiser predicts noise and variance.

    Args:
        denoiser: Config of the denoiser.
        vae: For latents, ``path`` and ``scale`` of a :class:`.LatentDecoder`; None for pixels.
        test_cfg: Fields of :class:`.SamplerSettings`.
        data_preprocessor: ``dict(type='mmwf.PixelPreprocessor')`` for pixels; by default inputs are
            used as they are, as for latents.
        init_cfg: As in MMEngine.

    Raises:
        UserError: If a setting of ``test_cfg`` is out of range, or requires guidance that the
            denoiser does not support.
    """

    def __init__(
        self,
        denoiser: dict,
        vae: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.denoiser = MODELS.build(denoiser)
        self.decode = LatentDecoder(**vae) if vae else None
        self.settings = SamplerSettings(**(test_cfg or {}))
        self.denoiser.check_guidance(self.settings.cfg_scale)
        self.scheduler = build_noise_schedule()
        self.register_buffer('betas', self.scheduler.betas.double(), persistent=False)

    def forward(
        self,
        data_samples: Sequence[BaseDataElement],
        inputs: Tensor | None = None,
        mode: str = 'predict',
    ) -> dict[str, Tensor] | list[BaseDataElement]:
        """Computes losses or samples images.

        Args:
            data_samples: Each with a ``label`` and, for ``'predict'``, an ``index``.
            inputs: Images in [-1, 1] or latents, (B, C, S, S); for ``'loss'`` only.
            mode: ``'loss'`` or ``'predict'``.

        Returns:
            As :meth:`loss` or :meth:`predict`.

        Raises:
            UserError: If a label is out of range, or the inputs do not have the shape that the
                denoiser expects.
            ValueError: If the mode is unknown.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(data_samples)
        raise ValueError(f"Expected mode to be 'loss' or 'predict', got {mode!r}.")

    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """Computes the losses at random time steps.

        Returns:
            ``loss_mse``, the mean squared error of the noise, and ``loss_vb``, the variational
            bound, whose gradient reaches the variance only.
        """
        labels = self._to_tensor([sample.label for sample in data_samples])
        timesteps = torch.randint(NUM_TIMESTEPS, labels.shape, device=labels.device)
        noise = torch.randn_like(inputs)
        noisy = self.scheduler.add_noise(inputs, noise, timesteps)
        predicted, variance = self.denoiser(noisy, timesteps, labels).float().chunk(2, dim=1)
        bound = variational_bound(
            inputs, noisy, timesteps, predicted.detach(), variance, self.betas
        )
        return dict(loss_mse=((predicted - noise) ** 2).mean(), loss_vb=bound.mean())

    def predict(self, data_samples: Sequence[BaseDataElement]) -> list[BaseDataElement]:
        """Samples an image for each ``label`` and ``index``.

        Returns:
            Data samples with ``image`` (3, height, width), uint8 RGB on the CPU, ``label``, and the
            sampler settings as metainfo ``protocol``.
        """
        labels = [sample.label for sample in data_samples]
        images = self.sample(labels, [sample.index for sample in data_samples])
        metainfo = dict(protocol=asdict(self.settings))
        return [
            # Clone: saving a view to a file would save the storage of the whole batch.
            BaseDataElement(metainfo=metainfo, image=image.clone(), label=label)
            for image, label in zip(images, labels, strict=True)
        ]

    @torch.no_grad()
    def sample(
        self,
        labels: Sequence[int],
        indices: Sequence[int],
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> Tensor:
        """Samples images.

        Args:
            labels: Class of each of B images.
            indices: Index of each image; together with the seed of the settings, it determines the
                noise of the image.
            progress: Wraps the iterator over sampling steps, such as tqdm.

        Returns:
            (B, 3, height, width), uint8 on the CPU, RGB.

        Raises:
            UserError: If a label is out of range, there are none or not as many as indices, the VAE
                cannot be loaded, or the model computes numbers that are not finite.
        """
        classes = self._to_tensor(labels)
        if len(indices) != len(labels):
            raise UserError(f'Expected an index for each label, got {len(indices)} indices.')
        if self.decode:
            self.decode.load()  # fail before sampling if the VAE is missing
        denoiser = self.denoiser
        x = run_sampler(
            lambda x, t: denoiser.forward_guided(x, t, classes, self.settings.cfg_scale),
            (denoiser.in_channels, denoiser.input_size, denoiser.input_size),
            indices,
            self.settings,
            clip_sample=self.decode is None,
            device=classes.device,
            progress=progress,
        )
        if self.decode:
            x = self.decode(x)
        if not x.isfinite().all():
            raise UserError(
                'The model computed images with numbers that are not finite. Check its weights, '
                'and the loss of its training.'
            )
        pixels = (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.expand(-1, 3, -1, -1).cpu()  # greyscale to RGB

    def check_labels(self, labels: Sequence[int]) -> None:
        """Checks that all labels are valid classes, and that there are any.

        Raises:
            UserError: If there is no label, or one is out of range.
        """
        num_classes = self.denoiser.num_classes
        if not len(labels):
            raise UserError('Expected at least one label, got none.')
        for label in labels:
            if not 0 <= label < num_classes:
                raise UserError(
                    f'Expected labels from 0 to {num_classes - 1} (num_classes={num_classes}), '
                    f'got {label}.'
                )

    def _to_tensor(self, labels: Sequence[int]) -> Tensor:
        self.check_labels(labels)
        return torch.tensor(labels, device=self.betas.device)
