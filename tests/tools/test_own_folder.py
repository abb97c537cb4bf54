"""tools/dataset_converters/own_folder.py: split, class numbers, config; what is wrong with a folder is told."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmplugins.hosts import problem_with
from mmplugins.registry import DATASETS
from tools.dataset_converters import own_folder


def fill(folder, count=10, values=(0, 3, 7), size=(40, 30), mode='L', suffix='.png'):
    """Images, and masks of stripes of the numbers; every other image is a JPEG."""
    for kind in ('images', 'masks'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / f'{number:02}{".jpg" if number % 2 else ".png"}')
        stripes = np.array(values, dtype=np.uint8)[np.arange(size[0]) % len(values)]
        Image.fromarray(np.tile(stripes, (size[1], 1))).convert(mode).save(folder / 'masks' / f'{number:02}{suffix}')
    return folder


def run(folder, *options):
    out = folder / 'out'
    command = ['--images', folder / 'images', '--masks', folder / 'masks', '--out', out, *options]
    own_folder.main([str(part) for part in command])
    return out


def label(path):
    return np.array(Image.open(path))


def test_split_and_classes(tmp_path, capsys):
    out = run(fill(tmp_path, values=(0, 3, 7, 255)))
    assert '8 training and 2 validation images\n3 classes: class 0, class 3, class 7\n' in capsys.readouterr().out
    assert sorted(path.name for path in (out / 'images/val').iterdir()) == ['00.png', '05.png']
    assert {path.name for path in (out / 'images/train').iterdir()} == {f'{i:02}.png' for i in (1, 2, 3, 4, 6, 7, 8, 9)}
    for path in (out / 'annotations').rglob('*.png'):
        assert label(path)[0, :8].tolist() == [0, 1, 2, 255, 0, 1, 2, 255]
    assert np.array_equal(label(out / 'images/val/00.png'), label(tmp_path / 'images/00.png'))


def test_config_reads_them(tmp_path):
    if problem := problem_with('mmseg'):
        pytest.skip(f'mmseg is needed: {problem}')
    (tmp_path / 'names.txt').write_text('floor\nchair\n\ntable\n')
    out = run(fill(tmp_path), '--classes', tmp_path / 'names.txt')
    cfg = Config.fromfile(out / 'config.py')
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
    for loader, count in ((cfg.train_dataloader, 8), (cfg.val_dataloader, 2)):
        dataset = DATASETS.build({**loader.dataset, 'pipeline': [], '_scope_': 'mmseg'})
        assert len(dataset) == count
        assert dataset.metainfo['classes'] == ('floor', 'chair', 'table')
        assert len({tuple(colour) for colour in dataset.metainfo['palette']}) == 3


@pytest.mark.parametrize(('values', 'mode', 'found'), [((0, 255), 'L', 2), ((0, 255), '1', 2), ((0, 1), 'L', 2)])
def test_binary_masks(tmp_path, values, mode, found):
    out = run(fill(tmp_path, values=values, mode=mode))
    assert set(np.unique(label(out / 'annotations/val/00.png'))) == {0, 1}


def test_own_palette_is_kept(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / 'masks').iterdir():
        mask = Image.open(path)
        mask.putpalette([value for index in range(256) for value in (index, 255 - index, 9)])
        mask.save(path)
    assert Config.fromfile(run(tmp_path) / 'config.py').metainfo.palette == [[0, 255, 9], [3, 252, 9], [7, 248, 9]]


def test_large_images_are_made_smaller(tmp_path):
    out = run(fill(tmp_path, count=5, size=(1024, 300)))
    assert label(out / 'images/val/00.png').shape == (150, 512, 3)
    assert set(np.unique(label(out / 'annotations/val/00.png'))) <= {0, 1, 2}


def test_only_its_own_folder_is_replaced(tmp_path):
    out = run(fill(tmp_path))
    (out / 'images/train/old.png').write_bytes(b'')
    assert not (run(tmp_path) / 'images/train/old.png').exists()
    (out / 'thesis.txt').write_text('')
    with pytest.raises(SystemExit, match='holds something else; give another --out'):
        run(tmp_path)
    assert (out / 'thesis.txt').exists()


def remove(path):
    path.unlink()


def colour(path):
    Image.open(path).convert('RGB').save(path)


def shrink(path):
    Image.open(path).resize((20, 15)).save(path)


def spoil(path):
    path.write_bytes(b'no picture')


def photograph(path):
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40)).save(path)


def turn(path):
    tags = Image.Exif()
    tags[own_folder.ORIENTATION] = 6
    Image.open(path).save(path, exif=tags)


@pytest.mark.parametrize(
    ('change', 'path', 'message'),
    [
        (remove, 'masks/03.png', 'every image needs a PNG mask of its name: 03 has no mask'),
        (remove, 'images/04.png', '04 has no image'),
        (colour, 'masks/02.png', r'02\.png has colours \(mode RGB\); one number a pixel is expected'),
        (shrink, 'masks/02.png', r'02\.png is 40x30, its mask 20x15'),
        (spoil, 'images/05.jpg', r'05\.jpg or its mask cannot be read'),
        (photograph, 'masks/02.png', 'the masks hold 255 different numbers beside 255, 2 to 64 classes are expected'),
        (turn, 'images/05.jpg', r'05\.jpg is turned by its EXIF tag \(save it upright\)'),
    ],
)
def test_faulty_files_are_told(tmp_path, change, path, message):
    change(fill(tmp_path) / path)
    with pytest.raises(SystemExit, match=rf'own_folder\.py: error: .*{message}'):
        run(tmp_path)
    assert not (tmp_path / 'out').exists()


def test_faulty_folders_are_told(tmp_path):
    with pytest.raises(SystemExit, match=r'there is no folder .*images; images/ and masks/ are expected side by side'):
        run(tmp_path)
    fill(tmp_path, count=4)
    with pytest.raises(SystemExit, match=r'at least 5 images with masks are needed, .* has 4'):
        run(tmp_path)
    fill(tmp_path)
    (tmp_path / 'images/00.jpg').write_bytes(b'')
    with pytest.raises(SystemExit, match=r'00\.jpg and 00\.png have one name; rename one of them'):
        run(tmp_path)


def test_faulty_names_are_told(tmp_path):
    fill(tmp_path)
    with pytest.raises(SystemExit, match=r'there is no file .*names\.txt'):
        run(tmp_path, '--classes', tmp_path / 'names.txt')
    (tmp_path / 'names.txt').write_text('a\nb\n')
    with pytest.raises(SystemExit, match=r'names\.txt has 2 names, the masks have the numbers 0, 3, 7'):
        run(tmp_path, '--classes', tmp_path / 'names.txt')
