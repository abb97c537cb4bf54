"""Packages mmplugins; configs, tools and the model index go into the wheel under ``mmplugins/.mim``, as mim expects."""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKED = ('configs', 'tools', 'model-index.yml')
SEG = [
    'onedl-mmengine>=0.10.12',
    'onedl-mmsegmentation>=1.4.2',
    'scipy',
    'rich',
    'pysodmetrics>=1.6.2',
    'vos-benchmark>=0.1.0',
]


class BuildWithMim(build_py):
    """Adds ``mmplugins/.mim``: copies in a wheel, links in an editable installation."""

    def run(self):
        super().run()
        if self.editable_mode:
            folder, place = ROOT / 'mmplugins' / '.mim', link
        else:
            folder, place = Path(self.build_lib) / 'mmplugins' / '.mim', copy
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in PACKED:
            place(ROOT / name, folder / name)


def link(source, target):
    target.symlink_to(source.resolve(), target_is_directory=source.is_dir())


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
    else:
        shutil.copy2(source, target)


setup(
    name='mmplugins',
    version=runpy.run_path(str(ROOT / 'mmplugins' / 'version.py'))['__version__'],
    description='Exact and fast losses, heads and metrics of well-known papers for the OpenMMLab toolboxes',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='computer vision, semantic segmentation, object detection, OpenMMLab',
    python_requires='>=3.10',
    packages=find_packages(include=['mmplugins', 'mmplugins.*']),
    # PyTorch is left to the user, as in all OpenMMLab packages: which build is right depends on the machine.
    # So is mmengine, which two distributions provide; without it, the first use of a registry says what
    # to install, and mmplugins.functional works.
    install_requires=['numpy', 'packaging'],
    # mmcv-lite and mmcv share their modules, and mmcv-lite asks for a distribution that clashes with onedl-mmengine:
    # 'seg' leaves mmcv to the README.
    extras_require={
        'seg': SEG,
        'full': [*SEG, 'onedl-mmcv>=2.3.6', 'onedl-mmdetection>=3.5.1'],
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
