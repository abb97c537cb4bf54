import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmplugins.registry import DATASETS

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_sample_data.py'


def make(out, *arguments):
    command = [sys.executable, str(TOOL), str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp('sample') / 'data'
    done = make(out, '--train', '3', '--val', '2')
    assert done.returncode == 0, done.stderr
    assert f'3 training and 2 validation images (semantic) are in {out}' in done.stdout.replace('\n', ' ')
    return out


def test_pixels_are_the_same_everywhere(made):
    image = np.array(Image.open(made / 'images/val/00000.png'))
    label = np.array(Image.open(made / 'annotations/val/00000.png'))
    assert image.shape == (96, 128, 3)
    assert zlib.crc32(image.tobytes()) == 3743710024
    assert zlib.crc32(label.tobytes()) == 749701868


def test_layout_and_classes(made):
    assert sorted(path.relative_to(made).as_posix() for path in made.rglob('*.png')) == sorted(
        f'{folder}/{split}/{i:05d}.png'
        for folder in ('images', 'annotations')
        for split, count in (('train', 3), ('val', 2))
        for i in range(count)
    )
    settings = json.loads((made / 'sample.json').read_text())
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/sample_96x128.py')
    assert tuple(settings['classes']) == config.metainfo.classes
    assert list(settings['classes'].values()) == config.metainfo.palette
    labels = [np.array(Image.open(path)) for path in (made / 'annotations').rglob('*.png')]
    values = set(np.unique(labels))
    assert values <= {*range(8), 255}
    assert {0, 255} < values
    assert Image.open(made / 'annotations/val/00000.png').getpalette()[3:6] == config.metainfo.palette[1]


def test_larger_set_begins_with_the_smaller(made, tmp_path):
    assert make(tmp_path / 'larger', '--train', '1', '--val', '3').returncode == 0
    for name in ('images/val/00001.png', 'annotations/val/00001.png', 'images/train/00000.png'):
        assert (tmp_path / 'larger' / name).read_bytes() == (made / name).read_bytes()
    assert make(tmp_path / 'other', '--train', '1', '--val', '1', '--seed', '1').returncode == 0
    name = 'images/val/00000.png'
    assert (tmp_path / 'other' / name).read_bytes() != (made / name).read_bytes()


def test_overwrite_removes_its_own_data_only(made, tmp_path):
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.tex').write_text('do not touch')
    done = make(mine, '--train', '1', '--val', '1')
    assert done.returncode == 2
    assert 'is not empty; give another folder, or --overwrite' in done.stderr
    done = make(mine, '--train', '1', '--val', '1', '--overwrite')
    assert 'holds no sample.json, so it was not made by this tool' in done.stderr
    assert (mine / 'thesis.tex').read_text() == 'do not touch'

    assert make(tmp_path / 'own', '--train', '2', '--val', '1').returncode == 0
    assert make(tmp_path / 'own', '--train', '1', '--val', '1', '--overwrite').returncode == 0
    assert len(list((tmp_path / 'own/images/train').iterdir())) == 1


def test_camouflage(tmp_path):
    """Masks of 0 and 255 that our data set reads; the mean colours of object and background differ by at most 0.15."""
    out = tmp_path / 'camouflage'
    arguments = '--kind', 'camouflage', '--train', '4', '--val', '2'
    assert make(out, *arguments).returncode == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob('*.png')) == sorted(
        f'{split}/{folder}/{i:05d}.png'
        for folder in ('Imgs', 'GT')
        for split, count in (('train', 4), ('test', 2))
        for i in range(count)
    )
    dataset = DATASETS.build(
        dict(
            type='mmplugins.BinaryMaskDataset',
            data_root=str(out),
            data_prefix=dict(img_path='train/Imgs', seg_map_path='train/GT'),
        )
    )
    assert len(dataset) == 4
    for path in out.rglob('GT/*.png'):
        mask = np.array(Image.open(path))
        assert mask.shape == (96, 128)
        assert set(np.unique(mask)) == {0, 255}
        assert 0.01 < (mask == 255).mean() < 0.5
        image = np.array(Image.open(path.parents[1] / 'Imgs' / path.name)) / 255
        difference = image[mask == 255].mean(axis=0) - image[mask == 0].mean(axis=0)
        assert np.abs(difference).max() < 0.15
    assert zlib.crc32(np.array(Image.open(out / 'test/Imgs/00000.png')).tobytes()) == 3122261494
    assert zlib.crc32(np.array(Image.open(out / 'test/GT/00000.png')).tobytes()) == 260472441

    assert make(out, '--train', '1', '--val', '1', '--overwrite').returncode == 0
    assert not (out / 'train').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '96'], "expected HEIGHTxWIDTH in pixels, such as 96x128, got '96'"),
        (['--size', '8x128'], "each side must be 32 to 4096 pixels, got '8x128'"),
        (['--train', '0'], "expected a number of images, at least 1, got '0'"),
        (['--seed', '-1'], 'argument --seed'),
        (['--kind', 'smell'], "invalid choice: 'smell'"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    done = make(tmp_path / 'out', *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / 'out').exists()
