"""Inputs that are not finite, empty, or smaller than a patch: an error, or a right result."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from toy import shrink_detection, shrink_segmentation

from mmwf.apis import init_model
from mmwf.errors import UserError
from mmwf.models import GaussianDiffusion, WeightFormer

CONFIGS = Path(__file__).parents[1] / 'configs'
ARCH = dict(embed_dims=16, depth=4, mlp_ratio=2)
TINY = 'weightformer-tiny-p16_'
TASKS = {
    'classification': f'classification/{TINY}8xb256_in1k.py',
    'segmentation': f'segmentation/fcn_{TINY}8xb2-160k_ade20k-512x512.py',
    'detection': f'detection/retinanet_{TINY}16xb4-amp-lsj-100e_coco.py',
    'instance segmentation': f'detection/vitdet-mask-rcnn_{TINY}16xb4-amp-lsj-100e_coco.py',
}


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('layers', [('fc1', 'dwconv'), ('fc2',)])
def test_a_number_that_is_not_finite_spoils_only_its_own_image(randomize, value, layers):
    model = randomize(WeightFormer(ARCH, dynamic_blocks='all', dynamic_layers=layers)).eval()
    x = torch.randn(3, 3, 40, 56)
    (expected,) = model(x)
    x[1, 2, 30, 5] = value
    (features,) = model(x)
    torch.testing.assert_close(features[[0, 2]], expected[[0, 2]])
    assert not features[1].isfinite().any()


@pytest.mark.parametrize('shape', [(1, 1), (3, 40), (15, 16)])
def test_an_image_smaller_than_a_patch_is_padded_with_zeros(randomize, shape):
    model = randomize(WeightFormer(ARCH)).eval()
    x = torch.randn(2, 3, *shape)
    padded = torch.zeros(2, 3, *(-(-side // 16) * 16 for side in shape))
    padded[..., : shape[0], : shape[1]] = x
    torch.testing.assert_close(model(x), model(padded))


@pytest.mark.parametrize(
    'x',
    [
        torch.zeros(0, 3, 32, 32),
        torch.zeros(1, 3, 0, 32),
        torch.zeros(1, 4, 32, 32),
        torch.zeros(3, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        None,
    ],
)
def test_what_is_not_a_batch_of_images_is_an_error(x):
    with pytest.raises(ValueError, match=r'at least one image, \(B, 3, height, width\)'):
        WeightFormer(ARCH)(x)


@pytest.fixture
def build(tmp_path):
    """Builds a small model of a task with random weights."""

    def build(task):
        cfg = Config.fromfile(CONFIGS / TASKS[task])
        if 'detection' in TASKS[task]:
            cfg = shrink_detection(cfg, tmp_path)
            cfg.model.data_preprocessor.pad_size_divisor = 1  # so that images stay small
        elif task == 'segmentation':
            cfg = shrink_segmentation(cfg, tmp_path)
        else:
            cfg.model.backbone.arch = ARCH
            cfg.model.head.in_channels = ARCH['embed_dims']
        return init_model(cfg, device='cpu')

    return build


def flatten(value, name=''):
    """Yields the tensors in a prediction by name."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, BaseDataElement):
        for key, item in value.items():
            yield from flatten(item, f'{name}.{key}'.lstrip('.'))


def predict(model, task, images):
    """Predicts, and returns the numbers of each prediction."""
    samples = []
    for image in images:
        height, width = image.shape[1:]
        info = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
        sample = {
            'classification': 'mmpretrain.structures.DataSample',
            'segmentation': 'mmseg.structures.SegDataSample',
        }.get(task, 'mmdet.structures.DetDataSample')
        module, _, name = sample.rpartition('.')
        kind = getattr(__import__(module, fromlist=[name]), name)
        samples.append(kind(metainfo=dict(info, pad_shape=(height, width))))
    inputs = torch.stack(images) if task == 'classification' else list(images)
    with torch.no_grad():
        outs = model.test_step(dict(inputs=inputs, data_samples=samples))
    return [dict(flatten(out)) for out in outs]


@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection'])
def test_one_bad_image_does_not_change_the_predictions_on_another(build, task):
    model = build(task)
    images = [torch.rand(3, 64, 64) * 255 for _ in range(2)]
    expected = predict(model, task, images)[0]
    images[1][0, 5, 7] = float('nan')
    actual, bad = predict(model, task, images)
    assert expected and set(actual) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value)
    for name in ('pred_instances.bboxes', 'pred_instances.scores'):
        assert name not in bad or bad[name].isfinite().all()  # no boxes, rather than wrong ones


def test_one_bad_image_removes_all_instances_of_its_batch_rather_than_changing_them(build):
    # mmdet's SingleRoIExtractor adds feats.sum() * 0 of pyramid levels without regions, which is
    # NaN if one image is.
    model = build('instance segmentation')
    images = [torch.rand(3, 64, 64) * 255 for _ in range(2)]
    assert len(predict(model, 'instance segmentation', images)[0]['pred_instances.bboxes'])
    images[1][0, 5, 7] = float('nan')
    for prediction in predict(model, 'instance segmentation', images):
        assert not len(prediction['pred_instances.bboxes'])


@pytest.mark.parametrize('task', TASKS)
def test_a_tiny_image_is_predicted_or_refused(build, task):
    model = build(task)
    try:
        (prediction,) = predict(model, task, [torch.rand(3, 5, 9) * 255])
    except ValueError as error:
        assert 'H and W must be at least 2' in str(error) and 'detection' in TASKS[task]
        return
    assert prediction and all(value.isfinite().all() for value in prediction.values())


def diffusion():
    arch = dict(embed_dims=16, depth=2, mlp_ratio=2)
    denoiser = dict(type='mmwf.Denoiser', arch=arch, input_size=4, in_channels=3, num_classes=2)
    return GaussianDiffusion(denoiser, test_cfg=dict(num_steps=2)).eval()


@pytest.mark.parametrize(('labels', 'indices'), [([], []), ([0, 1], [0]), ([2], [0]), ([-1], [0])])
def test_samples_need_labels_that_are_classes(labels, indices):
    with pytest.raises(UserError, match='Expected'):
        diffusion().sample(labels, indices)


def test_samples_that_are_not_finite_are_an_error():
    model = diffusion()
    assert model.sample([0], [0]).shape == (1, 3, 4, 4)
    model.denoiser.final_layer.linear.bias.data.fill_(float('nan'))
    with pytest.raises(UserError, match='not finite'):
        model.sample([0], [0])
