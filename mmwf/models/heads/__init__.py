"""Heads. Those that extend a head of another library import it when they are built."""

from mmwf.registry import MODELS

from .knn_head import KNNHead

__all__ = ['KNNHead']


@MODELS.register_module(name='RPNHead')
def _build_rpn_head(**kwargs):
    from .rpn_head import RPNHead

    return RPNHead(**kwargs)
