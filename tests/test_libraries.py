"""Imports on demand, without the noise of the libraries."""

import sys
import warnings

from mmwf.libraries import after_import, quiet_imports


def test_import_noise_is_dropped_and_the_rest_is_kept(capsys, recwarn):
    with quiet_imports():
        print('Could not import OneDL')
        print('something that matters')
        warnings.warn('faster_coco_eval is not installed, metrics will not', stacklevel=1)
        warnings.warn('another thing that matters', stacklevel=1)
    assert capsys.readouterr().out == 'something that matters\n'
    assert [str(w.message) for w in recwarn] == ['another thing that matters']


def test_a_callback_runs_once_the_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / 'late.py').write_text('value = 1')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:])
    seen = []
    after_import('late', lambda: seen.append(sys.modules['late'].value))
    assert seen == []
    import late  # noqa: F401

    assert seen == [1]
    after_import('late', lambda: seen.append(2))  # imported already
    assert seen == [1, 2]
    monkeypatch.delitem(sys.modules, 'late')
