"""Reading YAML without running code in it."""

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import YamlHandler


class SafeYamlHandler(YamlHandler):
    """MMEngine's handler, but with PyYAML's safe loader.

    MMEngine's own loader runs any function that a file names: ``!!python/object/apply:os.system``.
    """

    def load_from_fileobj(self, file, **kwargs):
        """Reads a file; raises ``yaml.YAMLError`` for other than plain values."""
        loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
        return super().load_from_fileobj(file, **{'Loader': loader, **kwargs})


def install() -> None:
    """Makes MMEngine read ``.yaml`` and ``.yml``, configs included, with the safe loader."""
    register_handler(['yaml', 'yml'])(SafeYamlHandler)
