from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.visualization import Visualizer

from mmplugins.engine.lost_pictures import tell_lost_pictures

IMAGE = np.full((4, 6, 3), 200, np.uint8)


@pytest.fixture
def visualizer(tmp_path):
    made = Visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path))
    tell_lost_pictures(SimpleNamespace(visualizer=made))
    return made


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr('mmplugins.engine.lost_pictures.print_log', lambda text, *_: lines.append(text))
    return lines


def test_the_first_that_is_lost_is_told(visualizer, tmp_path, told):
    folder = tmp_path / 'vis_data' / 'vis_image'
    visualizer.add_image('street', IMAGE, step=3)
    assert (folder / 'street_3.png').is_file()
    assert told == []
    for step in (4, 5):
        (folder / f'street_{step}.png').mkdir()  # OpenCV cannot write there
        visualizer.add_image('street', IMAGE, step=step)
    assert len(told) == 1
    assert told[0].startswith(f'the picture {folder / "street_4.png"} cannot be written')


def test_a_folder_that_is_not_there(visualizer, tmp_path, told):
    visualizer.add_image('far/street', IMAGE)
    assert len(told) == 1
    assert 'far/street_0.png cannot be written' in told[0]


def test_a_visualizer_that_keeps_nothing(told):
    tell_lost_pictures(SimpleNamespace(visualizer=Visualizer()))
    assert told == []
