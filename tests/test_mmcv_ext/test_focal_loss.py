"""Focal losses, tested against torchvision, cross-entropy and numerical derivatives."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss as torchvision_loss


def samples(dtype=torch.float64):
    """Logits (6, 4) and targets, of which 4 is the background."""
    return torch.randn(6, 4, dtype=dtype) * 3, torch.tensor([0, 1, 2, 3, 4, 1])


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss_is_torchvisions(gamma):
    x, target = samples()
    x.requires_grad_()
    expected = torchvision_loss(x, F.one_hot(target, 5)[:, :4].to(x), 0.3, gamma)
    out = sigmoid_focal_loss(x, target, gamma, 0.3, None, 'none')
    assert_close(out, expected)
    actual, expected = (torch.autograd.grad(y.sum(), x)[0] for y in (out, expected))
    assert_close(actual, expected)


def test_sigmoid_focal_loss_of_known_logits():
    # At p = 0.5: -0.25 * 0.25 * log 0.5 for the positive, -0.75 * 0.25 * log 0.5 for the negative.
    out = sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]), 2.0, 0.25, None, 'none')
    assert_close(out, torch.tensor([[0.0433217, 0.1299651]]))


def test_sigmoid_focal_loss_is_finite_for_certain_logits():
    x = torch.tensor([[200.0, -200.0]], requires_grad=True)
    sigmoid_focal_loss(x, torch.tensor([1]), 2.0, 0.25, None, 'sum').backward()
    assert_close(x.grad, torch.tensor([[0.75, -0.25]]))


@pytest.mark.parametrize('gamma', [0.5, 2.0])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_focal_losses_have_the_right_gradient(loss, weighted, reduction, gamma):
    x, target = samples()
    target = target.clamp(max=3)
    weight = torch.rand(4).double() if weighted else None
    check = lambda x: loss(x.clone(), target, gamma, 0.25, weight, reduction)  # noqa: E731
    assert torch.autograd.gradcheck(check, x.requires_grad_())


def test_the_class_weight_of_a_sample_scales_its_losses():
    x, target = samples()
    weight = torch.tensor([0.5, 2.0, 3.0, 4.0]).double()
    plain, weighted = (sigmoid_focal_loss(x, target, 2.0, 0.25, w, 'none') for w in (None, weight))
    factors = torch.tensor([0.5, 2.0, 3.0, 4.0, 1.0, 2.0]).double()  # 1 for the background
    assert_close(weighted, plain * factors[:, None])


@pytest.mark.parametrize('gamma', [0.0, 2.0])
def test_softmax_focal_loss_is_modulated_cross_entropy(gamma):
    x, target = samples()
    target = target.clamp(max=3)
    loss = F.cross_entropy(x, target, reduction='none')
    expected = 0.3 * (1 - torch.exp(-loss)) ** gamma * loss
    assert_close(softmax_focal_loss(x, target, gamma, 0.3, None, 'none'), expected)
    assert_close(softmax_focal_loss(x, target, gamma, 0.3, None, 'mean'), expected.mean())


def test_softmax_focal_loss_ignores_negative_targets():
    x = torch.randn(2, 3, requires_grad=True)
    softmax_focal_loss(x.clone(), torch.tensor([-1, 0]), 2.0, 0.25, None, 'sum').backward()
    assert x.grad[0].eq(0).all() and x.grad[1].ne(0).all()


@pytest.mark.parametrize('loss', [SigmoidFocalLoss(2.0, 0.25), SoftmaxFocalLoss(2.0, 0.25)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_focal_losses_keep_the_precision_of_their_input(loss, dtype):
    x = samples(dtype)[0].requires_grad_()
    target = samples()[1].clamp(max=3)
    with torch.autocast('cpu', dtype):
        out = loss(x, target)
    out.backward()
    assert x.grad.dtype == dtype and x.grad.isfinite().all()
    expected = loss(x.detach().double(), target)
    assert_close(out.double(), expected, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_focal_losses_of_no_samples_are_zero(loss):
    x = torch.zeros(0, 4, requires_grad=True)
    if loss is softmax_focal_loss:
        assert loss(x.clone(), torch.zeros(0).long(), 2.0, 0.25, None, 'none').shape == (0,)
    else:
        loss(x, torch.zeros(0).long(), 2.0, 0.25, None, 'sum').backward()
        assert x.grad.shape == (0, 4)
