import warnings

from mmwf.libraries import quiet_imports


def test_import_chatter_is_dropped_and_the_rest_is_kept(capsys, recwarn):
    with quiet_imports():
        print('Could not import OneDL')
        print('something that matters')
        warnings.warn('faster_coco_eval is not installed, metrics will not', stacklevel=1)
        warnings.warn('another thing that matters', stacklevel=1)
    assert capsys.readouterr().out == 'something that matters\n'
    assert [str(w.message) for w in recwarn] == ['another thing that matters']
