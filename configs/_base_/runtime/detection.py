_base_ = 'default_runtime.py'

default_scope = 'mmdet'
# The number of boxes in the RoI heads varies, and cuDNN would benchmark each number anew.
env_cfg = dict(cudnn_benchmark=False)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5000, save_best='auto'),
    visualization=dict(type='DetVisualizationHook', draw=False),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
