"""What importing the models costs."""


def test_models_import_torch_and_mmengine_only(run_python):
    result = run_python(
        'import sys, mmwf.models\n'
        "libraries = {'diffusers', 'mmcv', 'mmdet', 'mmpretrain', 'mmseg', 'torchvision'}\n"
        'print(sorted(libraries & set(sys.modules)))'
    )
    assert result.stdout.strip() == '[]', result.stderr
