"""The newest checkpoint that can be read is found, whatever has happened to the others."""

import shutil

import pytest
import torch

from mmwf.checkpoints import (
    find_newest,
    read_pointer,
    remove_checkpoints,
    save_checkpoint,
    saved_checkpoints,
    write_pointer,
)
from mmwf.errors import UserError


def save(folder, iteration, time=None, name=None, **content):
    meta = dict(epoch=0, iter=iteration, time=time or f'20260101_{iteration:06d}')
    content = dict(dict(meta=meta, state_dict={'a': torch.ones(9)}, message_hub={}), **content)
    path = folder / (name or f'iter_{iteration}.pth')
    save_checkpoint(content, path)
    write_pointer(folder, str(path))
    return path


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints; in alphabetical order the newest is the first one."""
    return [save(tmp_path, iteration) for iteration in (8, 9, 10)]


def test_the_newest_is_found_by_its_time(tmp_path, saved):
    assert find_newest(tmp_path) == (str(saved[2]), [])
    rewound = save(tmp_path, 9, time='20260102_000000')  # as after --resume iter_8.pth
    assert find_newest(tmp_path) == (str(rewound), [])


DAMAGE = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:-30]),
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('not a checkpoint'),
    'flipped': lambda path: path.write_bytes(path.read_bytes().replace(b'\x80?', b'\x80>', 1)),
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_checkpoints_are_skipped_and_named(tmp_path, saved, damage):
    damage(saved[2])
    newest, skipped = find_newest(tmp_path)
    assert newest == str(saved[1])
    assert len(skipped) == 1 and str(saved[2]) in skipped[0] and 'damaged' in skipped[0]


def test_a_deleted_checkpoint_is_skipped(tmp_path, saved):
    saved[2].unlink()
    assert find_newest(tmp_path) == (str(saved[1]), [])


@pytest.mark.parametrize(
    'content', [b'', b'\0\xff\0', b'gone.pth', b'/nowhere/a.pth', b'a\nb', None]
)
def test_a_bad_pointer_is_not_needed(tmp_path, saved, content):
    pointer = tmp_path / 'last_checkpoint'
    pointer.unlink() if content is None else pointer.write_bytes(content)
    assert find_newest(tmp_path) == (str(saved[2]), [])


def test_a_moved_or_copied_folder_is_found(tmp_path, saved):
    moved = tmp_path / 'elsewhere' / 'run'
    shutil.copytree(tmp_path, moved, copy_function=shutil.copyfile, dirs_exist_ok=True)
    for path in saved:
        path.unlink()
    assert find_newest(moved) == (str(moved / 'iter_10.pth'), [])
    assert read_pointer(moved) == str(moved / 'iter_10.pth')


def test_all_damaged_is_an_error_that_names_them(tmp_path, saved):
    for path in saved:
        path.write_bytes(b'')
    with pytest.raises(UserError, match='all checkpoints are damaged') as error:
        find_newest(tmp_path)
    assert all(str(path) in str(error.value) for path in saved)


def test_best_and_published_weights_and_partial_files_are_not_resumed(tmp_path):
    assert find_newest(tmp_path) == (None, [])
    assert find_newest(tmp_path / 'nowhere') == (None, [])
    save(tmp_path, 3, name='best_accuracy_iter_3.pth')
    save_checkpoint(dict(meta={}, state_dict={}), tmp_path / 'converted.pth')
    (tmp_path / 'iter_3.pth.1.part').write_bytes(b'PK')
    assert find_newest(tmp_path) == (None, [])


def test_finding_executes_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / 'executed'), 'w')

    save(tmp_path, 1, message_hub=Malicious())
    find_newest(tmp_path)
    assert not (tmp_path / 'executed').exists()


def test_only_what_a_run_has_saved_is_removed(tmp_path, saved):
    save(tmp_path, 3, name='best_accuracy_iter_3.pth')
    save_checkpoint(dict(meta={}, state_dict={}), tmp_path / 'mine.pth')
    write_pointer(tmp_path, str(saved[2]))
    expected = sorted([*saved, tmp_path / 'best_accuracy_iter_3.pth'])
    assert saved_checkpoints(tmp_path) == expected == remove_checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['mine.pth', 'mine.pth.sha256']
