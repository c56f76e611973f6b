from mmwf.libraries import quiet_imports


def test_import_chatter_is_dropped_and_the_rest_is_kept(capsys):
    with quiet_imports():
        print('Could not import OneDL')
        print('something that matters')
    assert capsys.readouterr().out == 'something that matters\n'
