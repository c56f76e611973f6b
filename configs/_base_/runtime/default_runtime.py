# Settings shared by all tasks.
custom_imports = dict(imports=['mmwf'])  # before mmdet and mmseg: see mmwf/compat.py

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    checkpoint_match=dict(type='mmwf.CheckpointMatchHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # replaced by gloo where there is no GPU
)

log_level = 'INFO'
load_from = None
resume = False
# A fixed seed, so that a resumed run keeps the order of the data.
randomness = dict(seed=0)
