"""The rooms of the package: which may import which, and how large they are."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmwf'
#: Each room imports from the rooms above it only. Modules of the top level are rooms too.
ROOMS = (
    'errors',
    'files',
    'version',
    'families',
    'registry',
    'libraries',
    'config_files',
    'processes',
    'mmcv_ext',
    'panopticapi',
    'yaml_files',
    'ops',
    'checkpoints',
    'models',
    'placeholders',
    'timm_models',
    'datasets',
    'engine',
    'evaluation',
    'analysis',
    'visualization',
    'apis',
    'commands',
)
MODULES = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
    for path in sorted(PACKAGE.rglob('*.py'))
}


def imported(name):
    """The modules of the package that a module imports, late imports included."""
    path = MODULES[name]
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = '.'.join([*base, *(node.module or '').split('.')]).strip('.')
            for alias in node.names:
                submodule = f'{source}.{alias.name}'
                found |= {submodule if submodule in MODULES else source} & set(MODULES)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module'):
            found |= {ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant)}
    return found & set(MODULES) - {name}


def room(name):
    return name.split('.')[1] if '.' in name else ''


def test_every_module_is_in_a_room():
    assert {room(name) for name in MODULES} == {*ROOMS, '', '__main__'}


@pytest.mark.parametrize('name', [name for name in MODULES if room(name) in ROOMS])
def test_imports_go_to_earlier_rooms(name):
    allowed = {'', *ROOMS[: ROOMS.index(room(name)) + 1]}
    assert {room(other) for other in imported(name)} <= allowed


def test_no_modules_import_each_other_in_a_circle():
    # A package's __init__ collects its modules; its modules import one another directly.
    graph = {name: imported(name) - {name.rpartition('.')[0]} for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_room_holds_more_than_a_fifth_of_the_code():
    lines = {}
    for name, path in MODULES.items():
        count = len(path.read_text().splitlines())
        lines[room(name)] = lines.get(room(name), 0) + count
    largest = max(lines, key=lines.get)
    assert lines[largest] <= sum(lines.values()) / 5, largest


def test_only_commands_parse_arguments():
    with_argparse = {
        room(name) for name, path in MODULES.items() if 'import argparse' in path.read_text()
    }
    assert with_argparse == {'commands'}
