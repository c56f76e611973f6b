# Settings shared by all tasks.
custom_imports = dict(imports=['mmwf'])  # before mmdet and mmseg: see mmwf/__init__.py

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmwf.CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    exact_resume=dict(type='mmwf.ExactResumeHook'),
    non_finite=dict(type='mmwf.NonFiniteHook'),
    signals=dict(type='mmwf.SignalHook'),
    stall=dict(type='mmwf.StallHook'),
    checkpoint_match=dict(type='mmwf.CheckpointMatchHook'),
    data_wait=dict(type='mmwf.DataWaitHook'),
    work_dir=dict(type='mmwf.WorkDirHook'),
)

env_cfg = dict(
    cudnn_benchmark=True,  # training images have one size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Without a GPU, gloo replaces nccl. The timeout in seconds must cover the checks before
    # training, for which all processes of a machine wait. That of a training step is StallHook's.
    dist_cfg=dict(backend='nccl', timeout=7200),
)
# 'high' lets fp32 matrix products use TF32 on GPUs; 'highest' does not.
float32_matmul_precision = 'high'

log_level = 'INFO'
load_from = None
resume = False
# A fixed seed, so that a resumed run keeps the order of the data. Each process draws its own random
# numbers for augmentation and drop path; initial weights and the data order are synchronised.
randomness = dict(seed=0, diff_rank_seed=True)
