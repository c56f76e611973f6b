"""What the arguments of ``mmwf train`` do to the config."""

import pytest
from mmengine.config import Config

from mmwf.checkpoints import save_checkpoint
from mmwf.commands import train
from mmwf.commands.train import apply_args, check_pretrained_backbone, parse_args
from mmwf.errors import UserError


def apply(tmp_path, *arguments, **settings):
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='AdamW')), **settings))
    apply_args(cfg, parse_args(['a.py', '--work-dir', str(tmp_path), *arguments]))
    return cfg


def test_amp_selects_our_optimizer_wrapper(tmp_path):
    assert apply(tmp_path, '--amp').optim_wrapper.type == 'mmwf.AmpOptimWrapper'
    assert 'type' not in apply(tmp_path).optim_wrapper


def test_scaling_the_rate_needs_a_base_batch_size(tmp_path):
    cfg = apply(tmp_path, '--auto-scale-lr', auto_scale_lr=dict(base_batch_size=8))
    assert cfg.auto_scale_lr.enable
    for settings in ({}, dict(auto_scale_lr=dict(enable=False))):
        with pytest.raises(UserError, match='--auto-scale-lr needs auto_scale_lr'):
            apply(tmp_path, '--auto-scale-lr', **settings)


def test_a_missing_checkpoint_is_an_error_before_anything_is_built(tmp_path):
    with pytest.raises(UserError, match=r'no checkpoint none\.pth'):
        apply(tmp_path, '--resume', 'none.pth')
    with pytest.raises(UserError, match=r'no checkpoint other\.pth'):
        apply(tmp_path, load_from='other.pth')


def save_epoch(folder, epoch):
    """Writes a checkpoint as a run does at the end of an epoch."""
    meta = dict(epoch=epoch, iter=10 * epoch, time=f'20260101_00000{epoch}')
    path = folder / f'epoch_{epoch}.pth'
    save_checkpoint(dict(meta=meta, state_dict={}, message_hub={}), path)
    (folder / 'last_checkpoint').write_text(path.name)
    return path


def test_resume_takes_the_newest_checkpoint_of_the_work_dir_if_there_is_one(tmp_path):
    cfg = apply(tmp_path, '--resume')
    assert not cfg.get('resume') and not cfg.get('load_from')
    checkpoint = save_epoch(tmp_path, 1)
    for arguments, settings in ((['--resume'], {}), ([], dict(resume=True))):
        cfg = apply(tmp_path, *arguments, **settings)
        assert cfg.resume and cfg.load_from == str(checkpoint)


def test_resume_skips_damaged_checkpoints_and_names_them(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(train, 'print_log', lambda message, **kwargs: logged.append(message))
    older, newer = save_epoch(tmp_path, 1), save_epoch(tmp_path, 2)
    newer.write_bytes(newer.read_bytes()[:-100])
    assert apply(tmp_path, '--resume').load_from == str(older)
    assert logged[0].startswith(f'Skipped: {newer}') and str(older) in logged[1]


def test_a_new_run_does_not_start_among_the_checkpoints_of_another(tmp_path):
    save_epoch(tmp_path, 1)
    with pytest.raises(UserError, match=r'epoch_1\.pth.*--resume.*--work-dir NEW.*--overwrite'):
        apply(tmp_path)
    cfg = apply(tmp_path, '--overwrite')
    assert cfg.default_hooks.work_dir == dict(type='mmwf.WorkDirHook', overwrite=True)
    assert not cfg.get('resume') and (tmp_path / 'epoch_1.pth').exists()


def test_processes_that_torchrun_restarts_resume(tmp_path, monkeypatch):
    path = str(save_epoch(tmp_path, 1))
    for restarts, expected in (('0', None), ('1', path)):
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', restarts)
        cfg = apply(tmp_path, '--overwrite')
        assert cfg.get('load_from') == expected
        assert cfg.default_hooks.work_dir.overwrite == (expected is None)


def test_a_restart_before_the_first_checkpoint_resumes_what_was_asked_for(tmp_path, monkeypatch):
    other = tmp_path / 'other.pth'
    other.touch()
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    assert apply(tmp_path / 'new', '--resume', str(other)).load_from == str(other)


def test_pretrained_weights_of_the_backbone_are_not_needed_with_load_from():
    """Such as when a run is resumed where the file is not."""
    missing = dict(type='Pretrained', checkpoint='none.pth')
    cfg = Config(dict(model=dict(backbone=dict(init_cfg=missing))))
    with pytest.raises(UserError, match=r'no checkpoint none\.pth .*pretrained weights'):
        check_pretrained_backbone(cfg)
    cfg.load_from = 'a.pth'
    check_pretrained_backbone(cfg)
    assert cfg.model.backbone.init_cfg is None
