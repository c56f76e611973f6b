"""Training losses and samples of the diffusion model."""

import pytest
import torch
from diffusers import AutoencoderKL
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch.testing import assert_close

from mmwf.datasets import SampleRequests
from mmwf.models.diffusion.objective import variational_bound


def build(randomize=None, test_cfg=None, in_channels=1, **kwargs):
    denoiser = dict(
        type='mmwf.Denoiser',
        arch=dict(embed_dims=8, depth=2, mlp_ratio=2),
        input_size=4,
        patch_size=2,
        in_channels=in_channels,
        num_classes=5,
    )
    denoiser.update(kwargs.pop('denoiser', {}))
    test_cfg = dict(dict(sampler='ddpm', num_steps=4), **(test_cfg or {}))
    model = MODELS.build(
        dict(type='mmwf.GaussianDiffusion', denoiser=denoiser, test_cfg=test_cfg, **kwargs)
    )
    if randomize:
        randomize(model, std=0.1)
    return model.eval()


def data_samples(*labels):
    return [BaseDataElement(label=label) for label in labels]


@pytest.mark.parametrize('sampler', ['ddpm', 'ddim'])
def test_a_sample_depends_on_seed_and_index_but_not_on_its_batch(sampler, randomize):
    model = build(randomize, dict(sampler=sampler, cfg_scale=2.0))
    labels = [0, 1, 2, 3, 3]
    images = model.sample(labels, range(5))
    parts = [model.sample(labels[i::2], range(5)[i::2]) for i in range(2)]
    for i, part in enumerate(parts):
        assert_close(part, images[i::2], rtol=0, atol=1)
    assert not torch.equal(images[3], images[4])
    other_seed = build(randomize, dict(sampler=sampler, cfg_scale=2.0, seed=1))
    other_seed.load_state_dict(model.state_dict())
    assert not torch.equal(other_seed.sample(labels, range(5))[0], images[0])


def test_guidance_without_label_dropout_is_rejected_before_training():
    with pytest.raises(ValueError, match='label_drop_rate > 0'):
        build(test_cfg=dict(cfg_scale=1.5), denoiser=dict(label_drop_rate=0.0))


def test_the_loss_of_a_prediction_of_zero_is_the_variance_of_the_noise():
    model = build().train()  # the output of an untrained denoiser is zero
    losses = model.loss(torch.zeros(200, 1, 4, 4), data_samples(*[0] * 200))
    assert losses['loss_mse'].item() == pytest.approx(1.0, abs=0.1)


def test_the_losses_are_squared_error_and_variational_bound_with_equal_weight(randomize):
    """The bound sums 1000 time steps, of which one is sampled, and DiT weights it by 1/1000."""
    model = build(randomize, denoiser=dict(label_drop_rate=0.0)).train()
    inputs = torch.rand(6, 1, 4, 4) * 2 - 1
    torch.manual_seed(1)
    losses = model.loss(inputs, data_samples(*[2] * 6))
    torch.manual_seed(1)
    timesteps, noise = torch.randint(1000, (6,)), torch.randn_like(inputs)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    abar = torch.cumprod(1 - betas, dim=0)[timesteps][:, None, None, None]
    noisy = (abar.sqrt() * inputs + (1 - abar).sqrt() * noise).float()
    predicted, variance = model.denoiser(noisy, timesteps, torch.full((6,), 2)).chunk(2, dim=1)
    bound = variational_bound(inputs, noisy, timesteps, predicted, variance, betas)
    assert_close(losses['loss_mse'], (predicted - noise).square().mean())
    assert_close(losses['loss_vb'], bound.mean(), rtol=1e-4, atol=0)


def test_the_variational_bound_trains_the_variance_only():
    model = build().train()
    model.loss(torch.rand(8, 1, 4, 4), data_samples(*[0] * 8))['loss_vb'].backward()
    # The last layer outputs patches (2, 2, channels), the channels being noise and variance.
    noise, variance = model.denoiser.final_layer.linear.bias.grad.view(4, 2).unbind(1)
    assert not noise.any() and variance.all()


def test_predictions_are_rgb_images_with_label_and_protocol(randomize):
    model = build(randomize, dict(cfg_scale=3.0, seed=7))
    requests = SampleRequests(num_samples=7, num_classes=5)
    samples = model.test_step(dict(data_samples=[requests[i]['data_samples'] for i in range(7)]))
    assert [s.label for s in samples] == [0, 1, 2, 3, 4, 0, 1]
    for s in samples:
        assert s.image.shape == (3, 4, 4) and s.image.dtype == torch.uint8
        assert (s.image[0] == s.image[2]).all()  # greyscale
        assert s.image.untyped_storage().nbytes() == 3 * 4 * 4  # not that of the batch
        assert s.protocol == dict(sampler='ddpm', num_steps=4, cfg_scale=3.0, seed=7)
    assert set(samples[0].to_dict()) == {'image', 'label', 'protocol'}


def test_samples_become_pixels_and_only_pixels_are_clipped_while_sampling(monkeypatch, tmp_path):
    clipped = []

    def run_sampler(*args, clip_sample, **kwargs):
        clipped.append(clip_sample)
        return torch.tensor([-1.5, -1, -0.5, 0.2, 1, 1.5]).expand(1, 1, 1, -1)

    monkeypatch.setattr('mmwf.models.diffusion.gaussian_diffusion.run_sampler', run_sampler)
    (image,) = build().sample([0], [0])
    assert image[2, 0].tolist() == [0, 0, 64, 153, 255, 255]
    AutoencoderKL(latent_channels=1).save_pretrained(tmp_path)
    build(vae=dict(path=str(tmp_path))).sample([0], [0])
    assert clipped == [True, False]


def test_pixels_are_scaled_and_latents_are_not():
    data = dict(inputs=torch.tensor([0, 255], dtype=torch.uint8), data_samples=data_samples(0))
    pixels = build(data_preprocessor=dict(type='mmwf.PixelPreprocessor')).data_preprocessor(data)
    assert_close(pixels['inputs'], torch.tensor([-1.0, 1.0]))
    latents = dict(inputs=torch.tensor([0.3]), data_samples=data_samples(0))
    assert_close(build().data_preprocessor(latents)['inputs'], torch.tensor([0.3]))


@pytest.mark.parametrize('label', [-1, 5])
def test_a_label_out_of_range_is_named(label):
    model = build()
    with pytest.raises(ValueError, match=f'from 0 to 4 .*got {label}'):
        model.loss(torch.zeros(2, 1, 4, 4), data_samples(0, label))
    with pytest.raises(ValueError, match=f'got {label}'):
        model.sample([label], [0])


def test_latents_of_another_shape_are_rejected():
    with pytest.raises(ValueError, match=r'\(batch, 1, 4, 4\), got \(2, 4, 8, 8\)'):
        build().loss(torch.zeros(2, 4, 8, 8), data_samples(0, 1))


def test_latents_are_decoded_by_a_vae_that_is_not_part_of_the_weights(randomize, tmp_path):
    AutoencoderKL(block_out_channels=(32,), latent_channels=4).save_pretrained(tmp_path)
    model = build(randomize, in_channels=4, vae=dict(path=str(tmp_path), scale=0.5))
    keys = set(model.state_dict())
    (image,) = model.sample([1], [0])
    assert image.shape == (3, 4, 4) and image.float().std() > 0
    assert set(model.state_dict()) == keys
    latents = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        vae = AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
        assert_close(model.decode(latents), vae.decode(2 * latents).sample)


def test_a_missing_vae_is_named(randomize, tmp_path):
    model = build(randomize, in_channels=4, vae=dict(path=str(tmp_path / 'vae')))
    with pytest.raises(ValueError, match='hf download stabilityai/sd-vae-ft-ema'):
        model.sample([0], [0])
