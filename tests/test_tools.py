"""The tools, run as a user runs them, in their own processes, on a few real digits."""

import json
import os
import shutil
import sys
from pathlib import Path

import mmengine
import pytest
import torch
from helpers import difference, make_once, read_metrics, run, run_tool, weights
from safetensors.torch import load_file

from mmwf.datasets.toy.digits import write_digits

ROOT = Path(__file__).parents[1]
LEAF = ROOT / 'configs/quickstart/weightformer-w64d8-p4_1xb64-20e_digits-32px.py'


def logged(work_dir, key):
    """Returns the values of a key in the log of a work dir."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[key] for line in lines if key in line]


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Folder with 50 training and 20 validation digits."""
    root = tmp_path_factory.mktemp('digits')
    write_digits(root)
    for split, keep in (('train', 5), ('val', 2)):
        for folder in (root / split).iterdir():
            for path in sorted(folder.iterdir())[keep:]:
                path.unlink()
    return root


@pytest.fixture(scope='module')
def config(digits, tmp_path_factory):
    """Config of a small model that sees the same images in the same order every epoch."""
    path = tmp_path_factory.mktemp('configs') / 'toy.py'
    path.write_text(f"""
_base_ = {str(LEAF)!r}
model = dict(backbone=dict(arch=dict(embed_dims=16, depth=3, mlp_ratio=2)),
             head=dict(in_channels=16))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=8, sampler=dict(shuffle=False),
                        dataset=dict(data_root={str(digits)!r}, pipeline=pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(data_root={str(digits)!r}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
custom_hooks = [dict(type='mmwf.WeightStrengthHook', interval=6)]
""")
    return path


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    """Work dir and log of a finished training of two epochs."""

    def train(work_dir):
        (work_dir / 'printed.txt').write_text(run_tool('train.py', config, '--work-dir', work_dir))

    work_dir = make_once(tmp_path_factory, 'test_tools_trained', train)
    return work_dir, (work_dir / 'printed.txt').read_text()


def test_training_writes_checkpoints_and_a_log_without_noise(trained):
    work_dir, log = trained
    assert (work_dir / 'epoch_2.pth').exists()
    assert 'accuracy/top1' in log
    assert 'mmengine - INFO' in log.splitlines()[0]
    for noise in ('OneDL', 'NMS', 'Warning', 'WARNING', 'deprecated'):
        assert noise not in log


@pytest.mark.slow
def test_testing_reproduces_the_metrics_of_the_last_validation(config, trained, tmp_path):
    work_dir, log = trained
    out = tmp_path / 'metrics.json', tmp_path / 'predictions.pkl'
    run_tool('test.py', config, work_dir / 'epoch_2.pth', '--work-dir', tmp_path, '--out', *out)
    accuracy = json.loads(out[0].read_text())['accuracy/top1']
    assert f'Epoch(val) [2][3/3]    accuracy/top1: {accuracy:.4f}' in log
    predictions = mmengine.load(out[1])
    right = sum(int(p['pred_label']) == int(p['gt_label']) for p in predictions)
    assert len(predictions) == 20
    assert accuracy == pytest.approx(100 * right / 20)


@pytest.mark.slow
def test_show_dir_gets_a_drawing_of_every_test_image(config, trained, tmp_path):
    show_dir = tmp_path / 'drawings'
    checkpoint = trained[0] / 'epoch_2.pth'
    run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--show-dir', show_dir)
    assert len(list(show_dir.rglob('*.png'))) == 20


@pytest.mark.slow
def test_test_time_augmentation_averages_over_flips(config, trained, tmp_path):
    checkpoint, scores = trained[0] / 'epoch_2.pth', []
    for extra in ([], ['--tta']):
        out = tmp_path / f'{len(extra)}.pkl'
        run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--out', out, *extra)
        scores.append(torch.stack([p['pred_score'] for p in mmengine.load(out)]))
    assert scores[1].shape == scores[0].shape
    assert not torch.allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.slow
def test_a_resumed_training_gives_the_same_weights(config, trained, tmp_path):
    shutil.copy(trained[0] / 'epoch_1.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    log = run_tool('train.py', config, '--work-dir', tmp_path, '--resume')
    assert 'resumed epoch: 1' in log
    assert difference(weights(tmp_path / 'epoch_2.pth'), weights(trained[0] / 'epoch_2.pth')) == 0
    other = tmp_path / 'other'
    checkpoint = trained[0] / 'epoch_1.pth'
    run_tool('train.py', config, '--work-dir', other, '--resume', checkpoint)
    assert difference(weights(other / 'epoch_2.pth'), weights(trained[0] / 'epoch_2.pth')) == 0


@pytest.mark.slow
def test_all_options_of_training_work_together(config, tmp_path):
    log = run_tool(
        'train.py', config, '--work-dir', tmp_path, '--amp', '--auto-scale-lr', '--no-validate',
        '--resume', '--cfg-options', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert 'nothing to resume in' in log
    assert 'LR is set based on batch size of 64 and the current batch size is 8' in log
    assert 'Epoch(val)' not in log
    assert 'nan' not in log.split('Epoch(train)', 1)[1]
    assert (tmp_path / 'epoch_1.pth').exists()


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch_size(config, tmp_path):
    run(
        'bash', 'tools/dist_train.sh', config, 2, '--work-dir', tmp_path / 'two',
        '--cfg-options', 'train_dataloader.batch_size=4',
    )  # fmt: skip
    run_tool('train.py', config, '--work-dir', tmp_path / 'one')
    one, two = (weights(tmp_path / name / 'epoch_2.pth') for name in ('one', 'two'))
    assert difference(one, two) < 1e-5
    start = weights(tmp_path / 'one' / 'epoch_1.pth')
    assert difference(one, start) > 1e-4  # the weights did change
    one, two = (
        logged(tmp_path / name, 'weight_strength/backbone.blocks.1.dwconv')
        for name in ('one', 'two')
    )
    assert one and one == pytest.approx(two, rel=1e-4)  # the mean over the images of both processes


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(config, trained, tmp_path):
    checkpoint, results = trained[0] / 'epoch_2.pth', []
    for command in (
        [sys.executable, 'tools/test.py', config, checkpoint],
        ['bash', 'tools/dist_test.sh', config, checkpoint, 2],
    ):
        out = tmp_path / f'{len(results)}.json'
        run(*command, '--work-dir', tmp_path, '--out', out)
        results.append(read_metrics(out))
    assert results[0] == results[1]


@pytest.mark.slow
def test_no_thread_of_gloo_outlives_a_command(config, trained, tmp_path):
    """Such a thread can abort the process if it needs the interpreter after its shutdown."""
    script = tmp_path / 'script.py'
    # Not by their names: older versions of PyTorch do not name gloo's threads.
    script.write_text("""
import os
import torch
from mmwf.commands import run_main, test

init, of_gloo = torch.distributed.init_process_group, set()

def threads():
    return set(os.listdir('/proc/self/task'))

def init_process_group(*args, **kwargs):
    others = threads()
    init(*args, **kwargs)
    of_gloo.update(threads() - others)

def report(when):  # In one write: both processes share one output.
    os.write(1, f'gloo threads, {when}: {len(of_gloo & threads())}\\n'.encode())

def main():
    test.main()
    report('before')

torch.distributed.init_process_group = init_process_group
run_main(main)
report('after')
""")
    log = run(
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2,
        script, config, trained[0] / 'epoch_2.pth', '--work-dir', tmp_path, '--launcher', 'pytorch',
    )  # fmt: skip
    assert 'gloo threads, before: 0' not in log
    assert log.count('gloo threads, after: 0') == 2


def test_several_machines_connect_to_the_given_address(tmp_path):
    """Tests only the command line: Python is replaced by a script that prints it."""
    fake = tmp_path / 'python'
    fake.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS" "$@"\n')
    fake.chmod(0o755)
    machines = dict(NNODES='4', NODE_RANK='2', MASTER_ADDR='head', PORT='1234')
    out = run(
        'bash', 'tools/dist_train.sh', 'c.py', 8, '--amp', **{**machines, 'PYTHON': str(fake)}
    )
    assert '--nnodes 4 --node-rank 2 --master-addr head --master-port 1234' in out
    assert '--nproc-per-node 8' in out
    assert out.rstrip().endswith('tools/train.py c.py --amp --launcher pytorch')


@pytest.mark.parametrize(
    ('script', 'args', 'expected'),
    [
        ('slurm_train.sh', ['part', 'job', 'c.py', '--amp'], 'tools/train.py c.py --amp'),
        (
            'slurm_test.sh',
            ['part', 'job', 'c.py', 'x.pth', '--tta'],
            'tools/test.py c.py x.pth --tta',
        ),
    ],
)
def test_slurm_scripts_start_one_task_per_gpu(tmp_path, script, args, expected):
    """Tests only the command line: srun is replaced by a script that prints it."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    out = run(
        'bash', f'tools/{script}', *args, PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='16',
        GPUS_PER_NODE='4', SRUN_ARGS='--time 60',
    )  # fmt: skip
    assert '-p part --job-name=job --gres=gpu:4 --ntasks=16 --ntasks-per-node=4' in out
    assert '--time 60' in out
    assert out.rstrip().endswith(f'{expected} --launcher slurm')


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_launchers_print_their_usage(script):
    assert 'usage:' in run('bash', f'tools/{script}.sh', code=2)


def test_a_mistake_is_reported_without_a_traceback():
    log = run_tool('train.py', 'configs/none.py', code=1)
    assert log.startswith('error: There is no config configs/none.py')
    assert 'Traceback' not in log


def test_a_broken_image_is_named(config, digits, tmp_path):
    broken = tmp_path / 'digits'
    shutil.copytree(digits, broken)
    image = next((broken / 'train').glob('*/*.png'))
    image.write_bytes(b'')
    root = f'train_dataloader.dataset.data_root={broken}'
    log = run_tool('train.py', config, '--work-dir', tmp_path, '--cfg-options', root, code=1)
    assert f'Cannot read the image {image}' in log.splitlines()[-1]
    assert 'Traceback' not in log


def test_a_checkpoint_of_another_model_is_named(config, trained, tmp_path):
    other = 'model.backbone.dynamic_blocks=none'
    log = run_tool(
        'test.py', config, trained[0] / 'epoch_2.pth', '--work-dir', tmp_path,
        '--cfg-options', other, code=1,
    )  # fmt: skip
    assert 'The checkpoint does not fit the ImageClassifier' in log.splitlines()[-1]
    assert 'unexpected: backbone.blocks.1.dwconv.predictor' in log.splitlines()[-1]
    assert 'Traceback' not in log


def test_an_unknown_arch_is_named(config, tmp_path):
    arch = 'model.backbone.arch=huge'
    log = run_tool('train.py', config, '--work-dir', tmp_path, '--cfg-options', arch, code=1)
    assert "Expected arch to be one of ['base', 'small', 'tiny']" in log.splitlines()[-1]


def test_training_starts_from_released_weights(config, released_weights, tmp_path):
    src, arch = tmp_path / 'a.pth', 'model.backbone.arch'
    torch.save({'model': released_weights}, src)
    depth = len({key.split('.')[1] for key in released_weights if key.startswith('blocks.')})
    log = run_tool(
        'train.py', config, '--work-dir', tmp_path, '--cfg-options', f'load_from={src}',
        f'{arch}.embed_dims=32', f'{arch}.depth={depth}', f'{arch}.mlp_ratio=4',
        'model.backbone.patch_size=16', 'model.head.in_channels=32', 'train_cfg.max_epochs=1',
        'optim_wrapper.optimizer.lr=0', 'param_scheduler=None',
    )  # fmt: skip
    assert f'{len(released_weights)} of {len(released_weights)} keys matched' in log
    trained = weights(tmp_path / 'epoch_1.pth')
    released = released_weights['blocks.1.linear1.w1']
    assert torch.equal(trained['backbone.blocks.1.mlp.fc1.predictor.u'], released)


def test_released_weights_convert_both_ways(released_weights, tmp_path):
    convert = 'model_converters/official_to_mmwf.py'
    src, ours, back = tmp_path / 'a.pth', tmp_path / 'b.pth', tmp_path / 'c.safetensors'
    torch.save({'model': released_weights}, src)
    keys = f'{len(released_weights)} of {len(released_weights)} keys matched'
    assert keys in run_tool(convert, src, ours)
    assert keys in run_tool(convert, ours, back, '--reverse')
    result = load_file(back)
    assert set(result) == set(released_weights)
    assert all(torch.equal(result[k], v) for k, v in released_weights.items())


def test_the_digits_converter_writes_the_images_it_reports(tmp_path):
    log = run_tool('dataset_converters/digits.py', '--out', tmp_path / 'd')
    assert '1437 images' in log
    assert len(list((tmp_path / 'd/train').glob('*/*.png'))) == 1437
