"""The region proposal network under mixed precision."""

import pytest
import torch
from mmengine.registry import MODELS

from mmwf.libraries import quiet_imports


@pytest.fixture(params=['mmdet.RPNHead', 'mmwf.RPNHead'])
def head(request):
    with quiet_imports():
        import mmdet.models  # noqa: F401
    return build(request.param)


def build(kind):
    torch.manual_seed(0)
    head = MODELS.build(
        dict(
            type=kind,
            in_channels=16,
            feat_channels=16,
            num_convs=2,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4]
            ),
            bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='mmdet.L1Loss'),
        )
    )
    torch.nn.init.constant_(head.rpn_cls.bias, 3.0)  # confident, where bf16 is coarse
    return head.eval()


@torch.no_grad()
def scores(head, dtype):
    x = torch.randn(1, 16, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits, deltas = head.forward_single(x.to(dtype))
    return logits.sigmoid().flatten(), deltas


def test_only_ours_ranks_many_anchors_under_bf16(head):
    values, deltas = scores(head, torch.bfloat16)
    assert deltas.dtype == torch.bfloat16
    is_ours = 'mmwf' in type(head).__module__
    assert values.dtype == (torch.float32 if is_ours else torch.bfloat16)
    distinct = len(values.unique()) / len(values)
    assert distinct > 0.5 if is_ours else distinct < 0.05


def test_it_is_mmdets_in_fp32():
    ours, theirs = build('mmwf.RPNHead'), build('mmdet.RPNHead')
    ours.load_state_dict(theirs.state_dict())
    for actual, expected in zip(
        scores(ours, torch.float32), scores(theirs, torch.float32), strict=True
    ):
        assert torch.equal(actual, expected)
