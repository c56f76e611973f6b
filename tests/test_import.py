"""The cost of ``import mmwf``, which every command and every data loading worker pays."""


def test_import_prints_nothing(run_python):
    result = run_python('import mmwf')
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_import_does_not_import_the_libraries(run_python):
    result = run_python(
        'import sys, mmwf\n'
        "libraries = {'mmcv', 'mmdet', 'mmpretrain', 'mmseg', 'timm'}\n"
        "print([k for k, m in sys.modules.items() if k.split('.')[0] in libraries])"
    )
    assert result.stdout.strip() == '[]', result.stderr


def test_the_library_does_not_import_apis_and_commands(run_python):
    result = run_python(
        'import sys, mmwf.analysis, mmwf.datasets, mmwf.engine, mmwf.evaluation, mmwf.models\n'
        "print([name for name in sys.modules if name.startswith(('mmwf.apis', 'mmwf.commands'))])"
    )
    assert result.stdout.strip() == '[]', result.stderr


def test_import_takes_less_than_three_seconds(run_python):
    # CPU seconds: wall-clock time also depends on the load of the machine.
    code = 'import time, mmwf; print(time.process_time())'
    assert any(float(run_python(code).stdout) < 3 for _ in range(3))


def test_mmdet_imports_after_mmwf(run_python):
    # mmdet.models imports mmcv.ops, which the mmcv package on PyPI lacks.
    result = run_python('import mmwf, mmdet.models; print(mmdet.models.CascadeRCNN.__name__)')
    assert result.stdout.strip().endswith('CascadeRCNN'), result.stderr
