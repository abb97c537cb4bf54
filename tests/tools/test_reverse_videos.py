"""Videos that play backwards."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.videos import square, write_davis
from tools.dataset_converters import reverse_videos

MASKS = {
    'cow': [square(1, 0, left) for left in range(3)],
    'dog': [square(1, 2, 4), None, square(2, 2, 6), square(1, 3, 9)],
}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_davis(tmp_path / 'davis', MASKS)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_frames_and_masks(data, tmp_path, capsys):
    """A frame without a mask stays without; the masks keep their numbers and palettes."""
    out = tmp_path / 'backwards'
    reverse_videos.main([str(data), str(out)])
    assert capsys.readouterr().out == f'2 videos in {out}\n'
    for video, masks in MASKS.items():
        for kind in ('JPEGImages', 'Annotations'):
            before, after = (
                {path.stem: read(path) for path in (root / kind / '480p' / video).iterdir()} for root in (data, out)
            )
            expected = {f'{len(masks) - 1 - int(name):05d}': values for name, values in before.items()}
            assert after.keys() == expected.keys()
            assert all(np.array_equal(after[name], expected[name]) for name in expected)
    first = read(out / 'Annotations/480p/dog/00000.png')
    np.testing.assert_array_equal(first, MASKS['dog'][3])
    assert (out / 'ImageSets/2017/train.txt').read_text() == (data / 'ImageSets/2017/train.txt').read_text()


def test_videos_that_are_chosen(data, tmp_path):
    """The lists name no others, so that the copy can be tested as it is; files that are no frames do not count."""
    (data / 'JPEGImages/480p/dog/Thumbs.db').write_text('no frame')
    out = tmp_path / 'new'
    assert reverse_videos.reverse(data, out, ['dog', 'dog']) == 1
    assert [path.read_text() for path in (out / 'ImageSets/2017').iterdir()] == ['dog\n']
    assert sorted(path.name for path in (out / 'JPEGImages/480p').rglob('*.*')) == [f'{i:05d}.png' for i in range(4)]


def test_twice_is_the_same(data, tmp_path):
    for source, target in ((data, 'once'), (tmp_path / 'once', 'twice')):
        reverse_videos.main([str(source), str(tmp_path / target), '--videos', 'dog'])
    for path in (tmp_path / 'twice').rglob('*.png'):
        assert path.read_bytes() == (data / path.relative_to(tmp_path / 'twice')).read_bytes()
    assert len(list((tmp_path / 'twice').rglob('*.png'))) == 7
    assert not (tmp_path / 'twice/JPEGImages/480p/cow').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['davis', 'davis'], 'davis is there; remove it'),
        (['gone', 'new'], r'gone/JPEGImages/480p is not there; give the folder of DAVIS'),
        (['davis', 'new', '--videos', 'cat'], 'has no video cat; it has cow, dog'),
    ],
)
def test_mistakes(data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'^reverse_videos.py: error: .*{message}'):
        reverse_videos.main(arguments)


def test_a_last_frame_without_a_mask(data, tmp_path):
    (data / 'Annotations/480p/cow/00002.png').unlink()
    with pytest.raises(SystemExit, match='cow: its last frame has no mask, and would be the first one'):
        reverse_videos.main([str(data), str(tmp_path / 'new')])
    assert not (tmp_path / 'new').exists()
