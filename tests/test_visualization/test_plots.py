"""What the plots show."""

import numpy as np
import pytest

from mmwf.visualization.plots import (
    DARKEST,
    draw_curves,
    draw_receptive_fields,
    draw_throughput,
    draw_weight_strength,
)


@pytest.fixture
def png(tmp_path):
    """A path that must hold a PNG after the test."""
    path = tmp_path / 'plot.png'
    yield path
    assert path.read_bytes().startswith(b'\x89PNG')


def legend(artist):
    return [text.get_text() for text in artist.get_texts()]


def test_receptive_fields_are_relative_to_their_maximum_with_their_squares(png):
    field = np.arange(1, 13.0).reshape(3, 4)
    field[0, 0] = 0
    fields = {'before training': field, 'after training': field**2}
    squares = {title: {'20%': dict(side=1), '50%': dict(side=3)} for title in fields}
    squares['after training']['99%'] = dict(side=4)
    squares['before training']['99%'] = dict(side=4)
    figure = draw_receptive_fields(fields, squares, png)
    *axes, colorbar = figure.axes
    assert [ax.get_title() for ax in axes] == list(fields)
    for ax, values in zip(axes, fields.values(), strict=True):
        (image,) = ax.get_images()
        shown = image.get_array()
        assert shown.mask[0, 0] and shown.mask.sum() == 1
        assert shown.compressed() == pytest.approx(np.delete(values / values.max(), 0))
        assert (image.norm.vmin, image.norm.vmax) == (4 / 144, 1)  # of both fields
        corners = [patch.get_xy() for patch in ax.patches]
        assert corners == [(1.5, 1), (0.5, 0), (0, -0.5)]
        shares = [
            f'{share} of the response: {side} px'
            for share, side in (('20%', 1), ('50%', 3), ('99%', 4))
        ]
        assert legend(ax.get_legend()) == shares
    assert 'response' in colorbar.get_ylabel()


def test_the_scale_of_receptive_fields_ends_at_the_darkest(png):
    squares = {'a': {share: dict(side=1) for share in ('20%', '50%', '99%')}}
    figure = draw_receptive_fields({'a': np.array([[1, 1e-9]])}, squares, png)
    assert figure.axes[0].get_images()[0].norm.vmin == DARKEST


def test_weight_strength_has_a_line_for_each_kind_of_layer(png):
    rows = [
        dict(block=block, layer=layer, mean=block / 10, std=0.05)
        for block in (1, 4)
        for layer in ('dwconv', 'mlp.fc1')
    ]
    (ax,) = draw_weight_strength(rows, png).axes
    assert legend(ax.get_legend()) == ['dwconv', 'mlp.fc1']
    for container in ax.containers:
        line, _, (bars,) = container.lines
        assert line.get_xydata().tolist() == [[1, 0.1], [4, 0.4]]
        heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        assert heights == pytest.approx([0.1, 0.1])


def test_curves_have_a_panel_for_each_key_and_a_line_for_each_run(tmp_path):
    curves = {
        'a': {'loss': {20: 2.0, 10: 3.0}, 'top1': {20: 50.0}, 'lr': {10: 0.1}, 'time': {10: 1.0}},
        'b': {'loss': {10: 4.0}},
    }
    path = tmp_path / 'new' / 'curves.png'
    figure = draw_curves(curves, ['loss', 'top1', 'lr', 'time'], {'top1'}, path)
    assert path.stat().st_size
    loss, top1, *others = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ['loss', 'top1', 'lr', 'time', '', '']
    assert [ax.axison for ax in others] == [True, True, False, False]
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[10, 3], [20, 2]], [[10, 4]]]
    assert [line.get_marker() for line in (loss.lines[0], top1.lines[0])] == ['None', 'o']
    assert legend(figure.legends[0]) == ['a', 'b']


def test_throughput_has_two_panels_and_names_sizes_without_memory(png):
    rows = [
        dict(model='a', size=32, images_per_second=8.0, memory_per_image_mib=2.0),
        dict(model='a', size=64, images_per_second=2.0, memory_per_image_mib=8.0),
        dict(model='b', size=32, images_per_second=4.0),  # memory is not measured everywhere
        dict(model='b', size=64, error='out of memory'),
    ]
    figure = draw_throughput(rows, 'a machine', png)
    speed, memory = figure.axes
    assert figure.get_suptitle() == 'a machine'
    assert [line.get_xydata().tolist() for line in speed.lines] == [[[32, 8], [64, 2]], [[32, 4]]]
    assert memory.lines[0].get_xydata().tolist() == [[32, 2], [64, 8]]
    assert not memory.lines[1].get_xydata().size
    assert legend(figure.legends[0]) == ['a', 'b (out of memory at 64)']


def test_throughput_without_any_result_is_drawn(png):
    figure = draw_throughput([dict(model='large', size=8, error='out of memory')], '', png)
    assert legend(figure.legends[0]) == ['large (out of memory at 8)']
