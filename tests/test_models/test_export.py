"""The backbone as a program without Python: traced, and exported for many sizes."""

import pytest
import torch
from torch.testing import assert_close

from mmwf.models import WeightFormer

ARCH = dict(embed_dims=16, depth=3, mlp_ratio=4)
PATCH = 4


@pytest.fixture
def model(randomize):
    return randomize(WeightFormer(ARCH, patch_size=PATCH)).eval()


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('grad', [False, True])
def test_a_trace_computes_the_same_at_other_sizes(model, grad):
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(model, torch.randn(2, 3, 32, 48))  # compares two recordings
    for height, width in ((32, 48), (36, 44), (100, 60)):  # the batch stays the recorded one
        images = torch.randn(2, 3, height, width)
        assert_close(traced(images), model(images))


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'), reason='torch 2.6 cannot export it for many sizes'
)
@pytest.mark.parametrize('strict', [False, True])
def test_an_exported_program_computes_the_same_for_other_batches_and_sizes(model, strict):
    batch, rows, columns = (torch.export.Dim(name, min=low, max=64) for name, low in
                            (('batch', 1), ('rows', 4), ('columns', 4)))  # fmt: skip
    shapes = ({0: batch, 2: PATCH * rows, 3: PATCH * columns},)
    with torch.no_grad():
        example = torch.randn(2, 3, 32, 48)
        program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=strict)
        for b, height, width in ((2, 32, 48), (1, 64, 36), (3, 36, 44), (4, 16, 16)):
            images = torch.randn(b, 3, height, width)
            assert_close(program.module()(images), model(images))
