"""The generation configs at toy size: training, resuming, testing and sampling."""

import copy
import inspect
import pickle
import re
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from sklearn.datasets import load_sample_images

from mmwf.datasets import LatentDataset
from mmwf.datasets.toy.digits import write_digits
from mmwf.engine.run import set_up_run
from mmwf.libraries import import_task_library

ROOT = Path(__file__).parents[1]
README = ROOT / 'configs/generation/README.md'
GENERATION = sorted(p.name for p in (ROOT / 'configs/generation').glob('*.py'))
(DIGITS,) = (ROOT / 'configs/quickstart').glob('dit_*.py')
TINY = dict(embed_dims=8, depth=3, mlp_ratio=2)


@pytest.fixture(autouse=True)
def in_project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits')
    write_digits(root)
    return root


@pytest.fixture
def config(digits, tmp_path):
    """The quick start's config with a tiny denoiser, two iterations and no metric."""
    cfg = Config.fromfile(DIGITS)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.model.denoiser.arch = dict(TINY)
    cfg.model.test_cfg.num_steps = 2
    cfg.train_dataloader.dataset.data_root = str(digits / 'train')
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.max_iters = 2
    cfg.test_dataloader.dataset.num_samples = 12
    cfg.test_dataloader.batch_size = 5
    cfg.test_evaluator = dict(type='DumpResults', out_file_path=str(tmp_path / 'samples.pkl'))
    return cfg


def ema_of(runner):
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    return hook.ema_model


def load(path):
    cfg = Config.fromfile(path)
    import_task_library(cfg)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize('name', GENERATION)
def test_a_step_has_a_finite_loss_and_updates_every_parameter(name, randomize):
    cfg = load(f'configs/generation/{name}')
    arch = cfg.model.denoiser.arch
    cfg.model.denoiser.arch = dict(TINY, **({'num_heads': 2} if arch.startswith('dit') else {}))
    model = MODELS.build(cfg.model)
    model.init_weights()
    randomize(model)  # gates are zero at initialisation and would block gradients
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    shape = cfg.train_dataloader.dataset.shape
    batch = dict(inputs=torch.randn(4, *shape), data_samples=[BaseDataElement(label=999)] * 4)
    losses = model.train_step(batch, optim_wrapper)
    assert set(losses) == {'loss', 'loss_mse', 'loss_vb'} and losses['loss'].isfinite()
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]


@pytest.mark.parametrize('name', GENERATION)
def test_the_config_matches_its_name_and_the_recipe_of_dit(name):
    cfg = load(f'configs/generation/{name}')
    mixer, size, patch, gpus, batch = re.fullmatch(
        r'dit_(weightformer|attention)-(small|base)-p(\d)_(\d+)xb(\d+)-400k_in1k-256px\.py', name
    ).groups()
    denoiser = cfg.model.denoiser
    assert denoiser.arch == f'{dict(attention="dit").get(mixer, mixer)}-{size}'
    assert denoiser.patch_size == int(patch)
    assert (denoiser.in_channels, denoiser.input_size) == (4, 256 // 8)
    scale = inspect.signature(LatentDataset).parameters['scale'].default
    assert cfg.model.vae.scale == cfg.train_dataloader.dataset.get('scale', scale) == 0.18215
    assert cfg.train_dataloader.batch_size == int(batch)
    assert int(gpus) * int(batch) == cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.optim_wrapper.optimizer.lr == 1e-4 and not cfg.optim_wrapper.optimizer.weight_decay
    assert cfg.train_cfg.max_iters == 400_000 and not cfg.param_scheduler
    assert cfg.default_hooks.checkpoint.interval == 10_000
    (ema,) = cfg.custom_hooks
    assert ema.momentum == pytest.approx(1 - 0.9999)
    assert cfg.test_dataloader.dataset.num_samples == 50_000
    assert denoiser.num_classes == cfg.test_dataloader.dataset.num_classes == 1000
    assert cfg.randomness.diff_rank_seed  # otherwise all processes draw the same noise


def test_the_ema_of_the_weights_continues_after_a_resume(config):
    momentum = config.custom_hooks[0].momentum
    runner = set_up_run(copy.deepcopy(config))
    runner.train()
    checkpoint = Path(config.work_dir) / 'iter_2.pth'
    average, weights = ema_of(runner).module.state_dict(), runner.model.state_dict()

    config.resume, config.load_from = True, str(checkpoint)
    config.train_cfg.max_iters = 3
    resumed = set_up_run(config)
    seen = {}

    def look(runner):
        seen.update(
            average=copy.deepcopy(ema_of(runner).module.state_dict()),
            weights=copy.deepcopy(runner.model.state_dict()),
        )

    (timer,) = (hook for hook in resumed.hooks if type(hook).__name__ == 'IterTimerHook')
    timer.before_train = look  # after loading
    resumed.train()
    assert all(torch.equal(seen['average'][key], average[key]) for key in average)
    assert all(torch.equal(seen['weights'][key], weights[key]) for key in weights)
    assert any(not torch.equal(average[key], weights[key]) for key in weights)
    after = resumed.model.state_dict()
    for key, value in ema_of(resumed).module.state_dict().items():
        torch.testing.assert_close(value, average[key].lerp(after[key], momentum))


def test_a_resumed_run_does_not_repeat_the_noise_of_the_first_run(config):
    states = []

    def run():
        runner = set_up_run(copy.deepcopy(config))
        (timer,) = (hook for hook in runner.hooks if type(hook).__name__ == 'IterTimerHook')
        timer.before_train_iter = lambda *args, **kwargs: states.append(torch.get_rng_state())
        timer.after_train_iter = lambda *args, **kwargs: None
        runner.train()

    run()
    config.resume, config.load_from = True, str(Path(config.work_dir) / 'iter_2.pth')
    config.train_cfg.max_iters = 3
    run()
    run()
    first, _, resumed, again = states
    assert not torch.equal(resumed, first)
    assert torch.equal(resumed, again)


def test_testing_samples_from_the_ema_of_the_weights(config, tmp_path):
    set_up_run(copy.deepcopy(config)).train()
    config.load_from = str(Path(config.work_dir) / 'iter_2.pth')
    set_up_run(config).test()
    samples = pickle.loads((tmp_path / 'samples.pkl').read_bytes())
    assert [sample['label'] for sample in samples] == [*range(10), 0, 1]

    model = MODELS.build(config.model).eval()
    model.load_state_dict(torch.load(config.load_from, weights_only=False)['state_dict'])
    images = model.sample([s['label'] for s in samples], range(12))
    for sample, image in zip(samples, images, strict=True):
        torch.testing.assert_close(sample['image'], image, rtol=0, atol=1)


def test_the_config_for_own_images_in_the_readme_trains(tmp_path):
    (text,) = re.findall(r'```python\n(_base_.*?)```', README.read_text(), flags=re.DOTALL)
    for i, image in enumerate(load_sample_images().images):
        (tmp_path / f'data/class-{i}').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f'data/class-{i}/0.jpg'), image)
    changes = {
        'data/flowers/train': str(tmp_path / 'data'),
        'dict(input_size=64': f'dict(arch={dict(TINY, _delete_=True)}, input_size=64',
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / 'mine.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path / 'work'), 1
    cfg.model.test_cfg.num_steps = 2
    cfg.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False
    )
    runner = set_up_run(cfg)
    assert runner.train().sample([4], [0]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize('with_cp', [False, True])
def test_mixed_precision_and_checkpointing_train(config, with_cp):
    config.optim_wrapper.type = 'mmwf.AmpOptimWrapper'
    config.model.denoiser.with_cp = with_cp
    runner: Runner = set_up_run(config)
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    weights = runner.model.state_dict()
    assert all(value.isfinite().all() for value in weights.values())
    moved = 'denoiser.final_layer.linear.weight'
    assert not torch.equal(weights[moved], before[moved])
