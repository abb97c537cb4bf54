"""The arrows of the design: functional -> losses, match_costs -> assigners -> heads -> segmentors, never back."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'mmplugins'
HOSTS = ('mmcv', 'mmdet', 'mmseg', 'mmengine')
BASES = {'configs/_base_', 'configs/_base_/models', 'configs/_base_/datasets'}
# What the files of a folder may import of mmplugins, beside their own folder; anything else is an arrow back.
ALLOWED = {
    'functional': set(),
    'functional/checks': {'functional'},
    'functional/pixels': {'functional', 'functional/checks'},
    'functional/sets': {'functional', 'functional/checks'},
    'functional/masks': {'functional', 'functional/checks', 'functional/sets'},
    'ops': {'functional', 'hosts'},
    'conversion': {'hosts', 'files'},
    'models/averaging': {'registry'},
    'models/backbones': {'functional', 'registry', 'hosts'},
    'models/losses': {'functional', 'registry'},
    'models/task_modules/match_costs': {'functional', 'registry'},
    'models/task_modules/assigners': {'functional', 'registry', 'hosts', 'models/task_modules/match_costs'},
    'models/layers': {'functional', 'registry', 'hosts'},
    # Heads for mmseg that stand on mmdet's share the code of our heads for mmdet.
    'models/decode_heads': {'functional', 'registry', 'hosts', 'models/layers', 'models/losses', 'models/dense_heads'},
    'models/dense_heads': {
        *('functional', 'registry', 'hosts', 'models/layers', 'models/losses'),
        *('models/task_modules/match_costs', 'models/task_modules/assigners'),
    },
    'models/segmentors/aot': {
        *('functional', 'registry', 'hosts', 'models/layers', 'models/losses', 'models/decode_heads'),
    },
    'models/segmentors': {'functional', 'registry', 'hosts', 'models/segmentors/aot'},
    'datasets/transforms': {'functional', 'registry', 'hosts'},
    'datasets/samplers': {'functional', 'registry', 'hosts'},
    'datasets': {'functional', 'registry', 'hosts', 'datasets/transforms'},
    'evaluation/functional': {'functional'},
    'evaluation/metrics': {'functional', 'registry', 'hosts', 'evaluation/functional', 'visualization'},
    'engine': {'functional', 'registry', 'hosts', 'visualization', 'version', 'files'},
    'engine/hooks': {'functional', 'registry', 'hosts', 'engine', 'visualization'},
    'engine/schedulers': {'functional', 'registry', 'hosts', 'engine'},
    'engine/optimizers': {'functional', 'registry', 'hosts', 'engine'},
    'visualization': {'functional', 'registry', 'hosts'},
    'apis': {'functional', 'registry', 'hosts', 'engine'},
    # Configs name types, as the text configs do.
    'configs': set(),
    'configs/_base_': {'engine/hooks'},
    'configs/_base_/models': {
        *('models/decode_heads', 'models/dense_heads'),
        *('models/task_modules/assigners', 'models/task_modules/match_costs'),
    },
    'configs/_base_/datasets': {'evaluation/metrics'},
    'configs/pspnet': {'engine/hooks', 'models/losses', *BASES},
    'configs/detr': BASES,
    # Programs stand on everything.
    'demo': {'functional', 'apis', 'datasets/transforms', 'engine', 'models/segmentors/aot', 'visualization'},
    'doctor': {'functional', 'registry', 'hosts', 'ops', 'version', 'wheels', 'engine'},
    'report': {'version'},
    'models': set(),
    'evaluation': set(),
}
# Which hosts the files of a folder may import; folders below inherit from the longest match.
ALLOWED_HOSTS = {
    'functional': set(),
    'ops': set(),
    'conversion': {'mmengine'},
    'models/averaging': {'mmengine'},
    'models/backbones': {'mmengine', 'mmcv'},
    'models/losses': {'mmengine'},
    'models/task_modules/match_costs': {'mmengine'},
    'models/task_modules/assigners': {'mmengine', 'mmdet'},
    'models/layers': {'mmengine', 'mmcv'},
    'models/decode_heads': {'mmengine', 'mmcv', 'mmseg'},
    'models/dense_heads': {'mmengine', 'mmcv', 'mmdet'},
    'models/segmentors': {'mmengine', 'mmcv', 'mmseg'},
    'datasets': {'mmengine', 'mmcv', 'mmseg', 'mmdet'},
    'evaluation': {'mmengine', 'mmcv', 'mmseg', 'mmdet'},
    'engine': {'mmengine'},
    'visualization': {'mmengine', 'mmcv', 'mmseg', 'mmdet'},
    'apis': {'mmengine', 'mmcv', 'mmdet', 'mmseg'},
    'configs': {'mmengine', 'mmcv', 'mmseg', 'mmdet'},
    'demo': {'mmengine'},
    'doctor': {'mmengine'},
    'report': set(),
    'models': set(),
}


def imports(path: Path, package: Path = PACKAGE) -> set[str]:
    """Absolute names of the modules that a file imports, wherever in the file."""
    found = set()
    here = ('mmplugins', *path.relative_to(package).with_suffix('').parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = '.'.join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f'{module}.{alias.name}' for alias in node.names)
    return found


def folder_of(module: str, package: Path = PACKAGE) -> str:
    """Folder of a module of mmplugins, relative to the package; a module at its top stands for itself."""
    parts = module.split('.')[1:]
    while parts and not (package.joinpath(*parts).is_dir() or package.joinpath(*parts).with_suffix('.py').is_file()):
        parts.pop()
    if len(parts) > 1 and not package.joinpath(*parts).is_dir():
        parts.pop()
    return '/'.join(parts)


def allowed(imported: str, folder: str) -> bool:
    """Whether the files of a folder may import another; outside ``functional`` all its folders are one."""
    if not folder.startswith('functional') and imported.startswith('functional/'):
        imported = 'functional'
    return imported in {folder, *ALLOWED[folder], ''}


def violations(package: Path = PACKAGE) -> tuple[list[str], int]:
    """Arrows that point back, and the number of files read."""
    wrong, files = [], 0
    for path in sorted(package.rglob('*.py')):
        folder = path.parent.relative_to(package).as_posix()
        if folder in ('.', 'testing') or '.mim' in path.parts:
            continue
        files += 1
        for module in imports(path, package):
            top = module.split('.')[0]
            if top == 'mmplugins' and not allowed(folder_of(module, package), folder):
                wrong.append(f'{path.relative_to(package)} imports {module}')
            if top in HOSTS:
                host_rule = max((f for f in ALLOWED_HOSTS if f'{folder}/'.startswith(f'{f}/')), key=len)
                if top not in ALLOWED_HOSTS[host_rule]:
                    wrong.append(f'{path.relative_to(package)} imports {module}')
            if module.startswith('mmcv.ops') or (top == 'torchvision' and path.name != 'vision.py'):
                wrong.append(f'{path.relative_to(package)} imports {module}')
    return wrong, files


def test_no_arrow_points_back():
    wrong, files = violations()
    assert files > 10
    assert wrong == []


def test_a_wrong_arrow_is_found(tmp_path):
    (tmp_path / 'functional').mkdir()
    (tmp_path / 'models' / 'losses').mkdir(parents=True)
    (tmp_path / 'models' / 'losses' / 'a.py').write_text('from mmcv.ops import x\nfrom ...functional import b\n')
    (tmp_path / 'functional' / 'b.py').write_text(
        'def f():\n    from ..models.losses.a import x\n    import mmengine\n'
    )
    wrong, files = violations(tmp_path)
    assert files == 2
    assert {line.split(' imports ')[1] for line in wrong} == {
        'mmplugins.models.losses.a',
        'mmplugins.models.losses.a.x',
        'mmengine',
        'mmcv.ops',
        'mmcv.ops.x',
    }
