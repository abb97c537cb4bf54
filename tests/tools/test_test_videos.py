"""tools/test.py and copy_first_mask.py on videos: metric, palette images, tables and overlays."""

import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from PIL import Image

from mmplugins.evaluation.functional import object_scores
from tests.locations import ROOT
from tests.tools.tiny_run import free_port, run, run_here

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmseg.structures import SegDataSample

from tests.tools.tiny_video import SIZE, VIDEOS, make_videos, truth, write_video_config
from tools import test as tool

sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
import copy_first_mask

FRAMES = [f'{video}/{frame:05d}' for video, (frames, _) in VIDEOS.items() for frame in range(frames)]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    data = make_videos(folder / 'data')
    return data, *write_video_config(folder, data)


def mean_region(masks):
    """J over all objects, frames 1 to the last but one."""
    values = []
    for video, (frames, objects) in VIDEOS.items():
        scores = [object_scores(masks(video, t), truth(video, t), range(1, objects + 1)) for t in range(1, frames - 1)]
        values += [np.mean([frame[number][0] for frame in scores]) for number in range(1, objects + 1)]
    return 100 * np.mean(values)


def test_metric_and_files(tiny, tmp_path):
    """``--out``: the metric of the written files is the one that is reported; ``--show-dir``: a picture a frame."""
    data, config, checkpoint = tiny
    options = ['--out', tmp_path / 'png', '--show-dir', tmp_path / 'show']
    metrics = run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'work', *options)
    files = sorted(path.relative_to(tmp_path / 'png').as_posix() for path in (tmp_path / 'png').rglob('*.png'))
    assert files == [f'{frame}.png' for frame in FRAMES]

    def written(video, frame):
        return np.array(Image.open(tmp_path / 'png' / video / f'{frame:05d}.png'))

    assert metrics['J-Mean'] == pytest.approx(mean_region(written))
    for video in VIDEOS:
        assert np.array_equal(written(video, 0), truth(video, 0))
    rows = (tmp_path / 'png' / 'per-sequence_results.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['Sequence', 'cat_1', 'cat_2', 'dog_1']
    pictures = sorted(path.relative_to(tmp_path / 'show').as_posix() for path in (tmp_path / 'show').rglob('*.jpg'))
    assert pictures == [f'{frame}.jpg' for frame in FRAMES]
    drawn = cv2.imread(str(tmp_path / 'show' / 'dog' / '00000.jpg'))
    original = cv2.imread(str(data / 'JPEGImages' / '480p' / 'dog' / '00000.jpg'))
    change = np.abs(drawn.astype(int) - original).sum(2)
    assert change[truth('dog', 0) == 1].mean() > 5 * change[truth('dog', 0) == 0].mean()


def test_augmentation_by_an_option(tiny, tmp_path):
    """The model's own options; the written masks differ."""
    _, config, checkpoint = tiny
    options = ['--cfg-options', 'model.test_cfg.flip=True', 'model.test_cfg.scales=[1.0,1.3]']
    run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'w', '--out', tmp_path / 'once')
    run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'w', '--out', tmp_path / 'more', *options)
    once, more = (
        np.stack([np.array(Image.open(path)) for path in sorted((tmp_path / name / 'cat').iterdir())])
        for name in ('once', 'more')
    )
    assert once.shape == more.shape == (5, *SIZE)
    assert np.array_equal(once[0], more[0])
    assert not np.array_equal(once, more)


@pytest.mark.slow
def test_two_processes_equal_one(tiny, tmp_path):
    """One has five frames, the other four."""
    _, config, checkpoint = tiny
    run_here(tool.main, config, checkpoint, '--work-dir', tmp_path / 'one', '--out', tmp_path / 'alone')
    arguments = ['--work-dir', tmp_path / 'two', '--out', tmp_path / 'both']
    run('tools/dist_test.sh', config, checkpoint, 2, *arguments, PORT=free_port())
    for name in [*(f'{frame}.png' for frame in FRAMES), 'global_results.csv', 'per-sequence_results.csv']:
        assert (tmp_path / 'both' / name).read_bytes() == (tmp_path / 'alone' / name).read_bytes()


def test_copied_masks(tiny, tmp_path, capsys):
    """The baseline is the metric of the first truth everywhere."""
    _, config, _ = tiny
    options = ['--cfg-options', f'test_evaluator.output_dir={tmp_path / "png"}']
    metrics = run_here(copy_first_mask.main, config, *options)
    assert metrics['J-Mean'] == pytest.approx(mean_region(lambda video, frame: truth(video, 0)))
    assert f'J-Mean {metrics["J-Mean"]:.2f}' in capsys.readouterr().out.splitlines()[-1]
    assert np.array_equal(np.array(Image.open(tmp_path / 'png' / 'cat' / '00004.png')), truth('cat', 0))


def test_copies_of_objects_that_appear_later():
    masks = [
        torch.tensor([[[1, 0, 0, 255]]]),
        None,
        torch.tensor([[[0, 0, 2, 0]]]),
        None,
        torch.tensor([[[0, 0, 1, 0]]]),
    ]
    samples = []
    for frame, mask in zip((0, 1, 2, 3, 0), masks, strict=True):
        samples.append(SegDataSample(metainfo=dict(frame_id=frame)))
        if mask is not None:
            samples[-1].ref_sem_seg = PixelData(data=mask)
    found = [sample.pred_sem_seg.data.flatten().tolist() for sample in copy_first_mask.copies(iter(samples))]
    assert found == [[1, 0, 0, 0]] * 2 + [[1, 0, 2, 0]] * 2 + [[0, 0, 1, 0]]


def test_copies_without_data(tiny):
    options = ['--cfg-options', 'test_dataloader.dataset.data_root=nowhere']
    with pytest.raises(SystemExit, match=r'copy_first_mask\.py: error: .*there is no such folder'):
        run_here(copy_first_mask.main, tiny[1], *options)
