_base_ = 'default_runtime.py'

default_scope = 'mmengine'
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000, save_best=None),
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
