import errno
import resource
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.visualization import LocalVisBackend, Visualizer

from mmplugins.engine.pictures import write_pictures_or_raise

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def visualizer(folder, *backends):
    made = Visualizer(vis_backends=backends or [dict(type='LocalVisBackend')], save_dir=str(folder))
    write_pictures_or_raise(SimpleNamespace(visualizer=made))
    write_pictures_or_raise(SimpleNamespace(visualizer=made))  # of a visualizer that another runner had
    return made


def test_a_picture_is_the_toolboxes(tmp_path):
    visualizer(tmp_path / 'ours').add_image('street', IMAGE, step=3)
    Visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path / 'theirs')).add_image(
        'street', IMAGE, step=3
    )
    ours, theirs = (tmp_path / name / 'vis_data' / 'vis_image' / 'street_3.png' for name in ('ours', 'theirs'))
    assert ours.read_bytes() == theirs.read_bytes()
    assert np.array_equal(cv2.imread(str(ours))[..., ::-1], IMAGE)


def test_a_full_disk_is_an_error(tmp_path):
    """A limit on the size of files stands for the disk; OpenCV leaves what fits of a picture and says nothing."""
    made = visualizer(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match='File too large') as error:
            made.add_image('street', IMAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert error.value.filename == str(tmp_path / 'vis_data' / 'vis_image' / 'street_0.png')


def test_what_cannot_be_opened_is_an_error(tmp_path):
    made = visualizer(tmp_path)
    made.add_image('far/street', IMAGE)  # OpenCV makes no folder
    assert (tmp_path / 'vis_data' / 'vis_image' / 'far' / 'street_0.png').is_file()
    (tmp_path / 'vis_data' / 'vis_image' / 'tree_0.png').mkdir()
    with pytest.raises(IsADirectoryError, match=r'tree_0\.png'):
        made.add_image('tree', IMAGE)


def test_other_backends_are_left_alone(tmp_path):
    class Elsewhere(LocalVisBackend):
        def add_image(self, name, image, step=0, **kwargs):
            seen.append(name)

    seen = []
    visualizer(tmp_path, Elsewhere(save_dir=str(tmp_path))).add_image('street', IMAGE)
    assert seen == ['street']
    assert not [*tmp_path.rglob('*.png')]
    write_pictures_or_raise(SimpleNamespace(visualizer=Visualizer()))
