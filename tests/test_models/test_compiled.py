"""The compiled backbone: how many programs it needs, and that they compute the same."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from mmwf.models import WeightFormer

ARCH = dict(embed_dims=16, depth=3, mlp_ratio=4, drop_path_rate=0.1)
#: Image sizes: square or not, with even and odd numbers of tokens, with padding.
SIZES = [
    (64, 64), (96, 64), (64, 96), (70, 90), (128, 128), (100, 224), (80, 112), (224, 224), (75, 75),
    (64, 80),
]  # fmt: skip


@pytest.fixture
def counter():
    """A backend that counts programs and runs them without compiling."""
    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()


counts = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11),
    reason='counted with torch 2.11; torch 2.6 compiles more programs',
)


@counts
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('batch_sizes', [(1,), (2, 17, 3, 16)])
@pytest.mark.parametrize('out_indices', [-1, (0, 2)])
def test_ten_image_sizes_need_one_recompilation(counter, batch_sizes, training, out_indices):
    model = WeightFormer(ARCH, compile=True, out_indices=out_indices).train(training)
    model.blocks.compile(backend=counter, fullgraph=True)  # a graph break is an error
    with torch.set_grad_enabled(training):
        model(torch.randn(batch_sizes[0], 3, *SIZES[0]))
        model(torch.randn(batch_sizes[0], 3, *SIZES[0]))
        assert counter.frame_count == 1
        for i, size in enumerate(SIZES):
            model(torch.randn(batch_sizes[i % len(batch_sizes)], 3, *size))
    assert counter.frame_count == 2


@counts
def test_single_images_among_larger_batches_need_one_more_program(counter):
    model = WeightFormer(ARCH, compile=True).eval()
    model.blocks.compile(backend=counter, fullgraph=True)
    with torch.no_grad():
        for i, size in enumerate(SIZES):
            model(torch.randn(1 + i % 3, 3, *size))
    assert counter.frame_count == 3


def test_compiled_gradients_have_the_strides_of_their_weights():
    torch._dynamo.reset()
    model = WeightFormer(ARCH, compile=True)
    model.blocks.compile(backend='aot_eager')
    model(torch.randn(2, 3, 64, 64))[0].sum().backward()
    for name, parameter in model.named_parameters():  # else DDP warns
        assert parameter.grad.stride() == parameter.stride(), name


def test_gradient_checkpointing_can_be_compiled(counter):
    model = WeightFormer(ARCH, compile=True, with_cp=True)
    model.blocks.compile(backend=counter, fullgraph=True)
    model(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert counter.frame_count == 1
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('training', [False, True])
def test_the_compiled_backbone_computes_the_same_under_autocast(training):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = WeightFormer(dict(ARCH, drop_path_rate=0.0)).train(training)
    compiled = copy.deepcopy(model)
    compiled.compile_blocks()
    compiled.blocks.compile(backend='aot_eager')
    images, results = torch.randn(2, 3, 64, 80), []
    for m, dtype in ((model, None), (model, torch.bfloat16), (compiled, torch.bfloat16)):
        autocast = torch.autocast('cpu', dtype, enabled=dtype is not None)
        with torch.set_grad_enabled(training), autocast:
            output = m(images)[0]
        if training:
            m.zero_grad()
            output.float().square().mean().backward()
            output = torch.cat([p.grad.flatten() for p in m.parameters()])
        results.append(output.float().flatten())
    exact, eager, compiled = results
    assert 0 < (compiled - exact).norm() < 1.5 * (eager - exact).norm()


@pytest.mark.slow
def test_the_compiled_backbone_computes_the_same():
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = WeightFormer(dict(ARCH, drop_path_rate=0.0))
    compiled = copy.deepcopy(model)
    compiled.compile_blocks()
    for size in ((2, 3, 64, 80), (3, 3, 100, 70)):
        images = torch.randn(size)
        outputs = [m(images)[0] for m in (model, compiled)]
        assert_close(*outputs, rtol=1e-4, atol=1e-5)
        direction = torch.randn_like(outputs[0])
        for output in outputs:
            (output * direction).sum().backward()
    for (name, parameter), other in zip(
        model.named_parameters(), compiled.parameters(), strict=True
    ):
        scale = parameter.grad.abs().max()
        assert (parameter.grad - other.grad).abs().max() < 1e-4 * scale, name


def test_a_compiled_backbone_keeps_its_state_dict_and_can_be_copied():
    model = WeightFormer(ARCH, compile=True)
    assert list(model.state_dict()) == list(WeightFormer(ARCH).state_dict())
    copy.deepcopy(model).load_state_dict(model.state_dict())
