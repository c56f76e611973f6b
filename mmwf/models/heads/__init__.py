"""Heads that extend those of other libraries; a library is imported when its head is built."""

from mmwf.registry import MODELS


@MODELS.register_module(name='RPNHead')
def _build_rpn_head(**kwargs):
    from .rpn_head import RPNHead

    return RPNHead(**kwargs)
