import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmseg.utils import register_all_modules
from PIL import Image

from mmplugins.registry import DATASETS
from tests.locations import ROOT, data_root

HEIGHT, WIDTH = 6, 8


def write_image(path, value=90, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value + 1, value + 2)).save(path)


def write_mask(path, value=255, size=(WIDTH, HEIGHT), mode='L'):
    """Foreground in the left half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new('L', size, 0)
    mask.paste(value, (0, 0, size[0] // 2, size[1]))
    mask.convert(mode).save(path)


def build(root, **settings):
    return DATASETS.build(dict(type='mmplugins.BinaryMaskDataset', data_root=str(root), **settings))


def names(dataset):
    return [dataset.get_data_info(i)['img_path'].rpartition('/')[2] for i in range(len(dataset))]


@pytest.fixture
def root(tmp_path):
    for name in ('b', 'a'):
        write_image(tmp_path / 'Imgs' / f'{name}.jpg')
        write_mask(tmp_path / 'GT' / f'{name}.png')
    return tmp_path


def test_pairs_sorted_by_name(root):
    dataset = build(root, dataset_name='mine', mask_threshold=100)
    assert len(dataset) == 2
    info = dataset.get_data_info(0)
    assert info['img_path'] == str(root / 'Imgs' / 'a.jpg')
    assert info['seg_map_path'] == str(root / 'GT' / 'a.png')
    assert info['dataset_name'] == 'mine'
    assert info['mask_threshold'] == 100
    assert info['seg_fields'] == []
    assert info['reduce_zero_label'] is False
    assert dataset.metainfo['classes'] == ('background', 'foreground')


def test_any_suffix_in_any_case_and_no_other_file(tmp_path):
    for name in ('a.PNG', 'b.jpg', 'c.JPEG', 'd.e.jpg', 'f.png'):
        write_image(tmp_path / 'Imgs' / name)
    for name in ('a.jpg', 'b.Png', 'c.jpeg', 'd.e.png', 'f.JPG'):
        write_mask(tmp_path / 'GT' / name)
    (tmp_path / 'Imgs' / 'Thumbs.db').write_text('no image')
    (tmp_path / 'GT' / '._a.jpg').write_text('no image')
    (tmp_path / 'GT' / 'folder.png').mkdir()
    dataset = build(tmp_path)
    assert names(dataset) == ['a.PNG', 'b.jpg', 'c.JPEG', 'd.e.jpg', 'f.png']
    masks = [dataset.get_data_info(i)['seg_map_path'].rpartition('/')[2] for i in range(5)]
    assert masks == ['a.jpg', 'b.Png', 'c.jpeg', 'd.e.png', 'f.JPG']


def test_longer_mask_suffix(tmp_path):
    write_image(tmp_path / 'Imgs' / 'a.jpg')
    write_mask(tmp_path / 'GT' / 'a_mask.png')
    assert names(build(tmp_path, seg_map_suffix='_mask.png')) == ['a.jpg']
    with pytest.raises(ValueError, match='a: no mask in the folder'):
        build(tmp_path)


def test_other_folders_and_classes(tmp_path):
    write_image(tmp_path / 'image' / 'a.jpg')
    write_mask(tmp_path / 'mask' / 'a.png')
    prefix = dict(img_path='image', seg_map_path='mask')
    dataset = build(tmp_path, data_prefix=prefix, metainfo=dict(classes=('tissue', 'polyp')))
    assert dataset.metainfo['classes'] == ('tissue', 'polyp')
    assert dataset.metainfo['label_map'] is None
    assert prefix == dict(img_path='image', seg_map_path='mask')


def test_all_unmatched_files_in_one_error(root):
    write_image(root / 'Imgs' / 'alone.jpg')
    write_mask(root / 'GT' / 'spare.png')
    write_image(root / 'Imgs' / 'a.png')
    write_mask(root / 'GT' / 'b.jpg')
    with pytest.raises(ValueError, match=r'4 problem\(s\) with the files of ') as error:
        build(root)
    text = str(error.value)
    assert 'alone: no mask in the folder' in text
    assert f'{root}/GT/spare.png: no image of this name' in text
    assert f"a: two image files, ['{root}/Imgs/a.jpg', '{root}/Imgs/a.png']" in text
    assert f"b: two mask files, ['{root}/GT/b.jpg', '{root}/GT/b.png']" in text
    assert text.endswith('Mend or remove the files, or list the names to use in ann_file.')


def test_list_of_problems_is_bounded(root):
    for i in range(25):
        write_image(root / 'Imgs' / f'x{i:02}.jpg')
    with pytest.raises(ValueError, match='and 5 more') as error:
        build(root)
    assert str(error.value).startswith('25 problem(s)')
    assert 'x19: no mask' in str(error.value)
    assert 'x20: no mask' not in str(error.value)


def test_unreadable_files_are_named(root):
    (root / 'Imgs' / 'a.jpg').write_bytes(b'')
    (root / 'GT' / 'b.png').write_bytes(b'no image at all')
    with pytest.raises(ValueError, match=r'2 problem\(s\)') as error:
        build(root)
    assert f'{root}/Imgs/a.jpg: unreadable, UnidentifiedImageError' in str(error.value)
    assert f'{root}/GT/b.png: unreadable, UnidentifiedImageError' in str(error.value)
    assert len(build(root, check_files=False)) == 2


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_truncated_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for folder in ('Imgs', 'GT'):
        path = tmp_path / folder / f'a.{suffix}'
        path.parent.mkdir()
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(ValueError, match=r'2 problem\(s\)') as error:
        build(tmp_path)
    assert f'{tmp_path}/Imgs/a.{suffix}: unreadable, OSError' in str(error.value)
    assert f'{tmp_path}/GT/a.{suffix}: unreadable, OSError' in str(error.value)


def test_sizes_must_agree_in_training_only(root):
    write_mask(root / 'GT' / 'a.png', size=(WIDTH, HEIGHT + 1))
    with pytest.raises(ValueError, match=r'Imgs/a.jpg: size \(8, 6\), but its mask \(8, 7\) \(width, height\)'):
        build(root)
    assert len(build(root, test_mode=True)) == 2


def test_masks_of_labels_are_not_taken_for_empty_ones(root):
    for name in ('a', 'b'):
        write_mask(root / 'GT' / f'{name}.png', value=1)
    with pytest.raises(ValueError, match=r'largest grey value of all is 1, mask_threshold is 127; .* mask_threshold=0'):
        build(root)
    assert len(build(root, mask_threshold=0)) == 2
    write_mask(root / 'GT' / 'b.png', value=128)
    with pytest.raises(ValueError, match=r'GT/a.png: all background, its values are 0 and 1, .* go up to 128; save it'):
        build(root)
    write_mask(root / 'GT' / 'a.png', value=0)
    assert len(build(root)) == 2


def test_a_mask_in_the_alpha_channel_is_named(root):
    mask = Image.open(root / 'GT' / 'a.png')
    for mode, colour in (('LA', 0), ('RGBA', (255, 255, 255))):
        image = Image.new(mode[:-1], mask.size, colour)
        image.putalpha(mask)
        image.save(root / 'GT' / 'a.png')
        with pytest.raises(
            ValueError, match=r'alpha channel of the mask .*a.png and its colours .*; save it as a grey'
        ):
            build(root)
    opaque = mask.convert('RGB')
    opaque.putalpha(255)
    opaque.save(root / 'GT' / 'a.png')
    assert build(root, pipeline=[dict(type='mmplugins.LoadBinaryMask')])[0]['gt_seg_map'].sum() == HEIGHT * WIDTH // 2


def test_palettes_whose_colours_do_not_tell_are_read_by_number(root):
    """A black entry 1, and DAVIS's dark red; a palette of white and black, in this order, is read by its colours."""
    mask = (np.asarray(Image.open(root / 'GT' / 'a.png')) > 0).astype(np.uint8)
    for palette, numbers in (
        ([0, 0, 0, 0, 0, 0], mask),
        ([0, 0, 0, 128, 0, 0], mask),
        ([255, 255, 255, 0, 0, 0], 1 - mask),
    ):
        image = Image.fromarray(numbers, mode='P')
        image.putpalette(palette)
        image.save(root / 'GT' / 'a.png')
        assert np.array_equal(build(root, pipeline=[dict(type='mmplugins.LoadBinaryMask')])[0]['gt_seg_map'], mask)


def test_objects_in_dark_colours_of_a_palette_are_foreground(root):
    """DAVIS's colours: of objects 1, 2 and 7 only the last one's grey is above 127."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[:2], numbers[2:4], numbers[4:5] = 1, 2, 7
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128]
    image = Image.fromarray(numbers, mode='P')
    image.putpalette(palette)
    image.save(root / 'GT' / 'a.png')
    found = build(root, pipeline=[dict(type='mmplugins.LoadBinaryMask')])[0]['gt_seg_map']
    assert np.array_equal(found, numbers > 0)


def test_reduce_zero_label_of_another_data_set(root):
    from mmplugins.datasets.transforms import LoadBinaryMask

    with pytest.raises(ValueError, match=r'a\.png: reduce_zero_label of the data set leaves out label 0'):
        LoadBinaryMask()(dict(seg_map_path=str(root / 'GT' / 'a.png'), reduce_zero_label=True))


def test_images_beyond_pillow_s_limit_are_not_called_unreadable(root, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 4)
    with pytest.raises(ValueError, match=r'a\.jpg has more pixels than Pillow opens, 8') as error:
        build(root)
    assert 'unreadable' not in str(error.value)


def test_sixteen_bit_masks(root):
    mask = np.asarray(Image.open(root / 'GT' / 'a.png')).astype(np.uint16) * 257
    Image.fromarray(mask).save(root / 'GT' / 'a.png')
    assert np.array_equal(build(root, pipeline=[dict(type='mmplugins.LoadBinaryMask')])[0]['gt_seg_map'], mask > 0)


def test_no_label_can_be_left_out(root):
    with pytest.raises(ValueError, match='labels 0, background, and 1, foreground, none of which can be left out'):
        build(root, reduce_zero_label=True)


def test_lists_with_suffixes_blanks_and_a_byte_order_mark(root):
    write_image(root / 'Imgs' / 'car 1.jpg')
    write_mask(root / 'GT' / 'car 1.png')
    (root / 'list.txt').write_text('\ufeffb.jpg\ncar 1\n\n', encoding='utf-8')
    assert names(build(root, ann_file='list.txt')) == ['b.jpg', 'car 1.jpg']


def test_images_without_objects_are_data(root):
    for name in ('a', 'b'):
        write_mask(root / 'GT' / f'{name}.png', value=0)
    assert len(build(root)) == 2


def test_empty_and_missing_folders(tmp_path):
    (tmp_path / 'Imgs').mkdir()
    (tmp_path / 'GT').mkdir()
    with pytest.raises(ValueError, match=r'img_path .*/Imgs holds no file that ends in one of .*\.jpeg'):
        build(tmp_path)
    write_image(tmp_path / 'Imgs' / 'a.jpg')
    with pytest.raises(ValueError, match=r'seg_map_path .*/GT holds no file'):
        build(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'img_path .*/nowhere/Imgs is no folder; check data_root'):
        build(tmp_path / 'nowhere')


def test_masks_may_be_left_out_of_a_test_only(root):
    (root / 'GT' / 'a.png').unlink()
    prefix = dict(img_path='Imgs')
    dataset = build(root, data_prefix=prefix, test_mode=True)
    assert names(dataset) == ['a.jpg', 'b.jpg']
    assert 'seg_map_path' not in dataset.get_data_info(0)
    with pytest.raises(ValueError, match=r'training needs masks, .*add seg_map_path, or set test_mode=True'):
        build(root, data_prefix=prefix)
    with pytest.raises(ValueError, match='a: no mask in the folder'):
        build(root, test_mode=True)


def test_ann_file_chooses(root):
    write_mask(root / 'GT' / 'spare.png')
    (root / 'list.txt').write_text('b\n\n')
    assert names(build(root, ann_file='list.txt')) == ['b.jpg']
    (root / 'list.txt').write_text('b\nmissing\n')
    with pytest.raises(ValueError, match=r'2 problem\(s\)') as error:
        build(root, ann_file='list.txt')
    assert 'missing: no image in the folder' in str(error.value)
    assert 'missing: no mask in the folder' in str(error.value)
    (root / 'list.txt').write_text('\n')
    with pytest.raises(ValueError, match='lists no names'):
        build(root, ann_file='list.txt')


def test_lazy_init_and_indices(root):
    (root / 'Imgs' / 'a.jpg').write_bytes(b'')
    dataset = build(root, lazy_init=True)
    with pytest.raises(ValueError, match='unreadable'):
        dataset.full_init()
    write_image(root / 'Imgs' / 'a.jpg')
    assert names(build(root, indices=1)) == ['a.jpg']


def test_several_sets_concatenate(root, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    write_image(other / 'Imgs' / 'c.jpg')
    write_mask(other / 'GT' / 'c.png')
    sets = [
        dict(type='mmplugins.BinaryMaskDataset', data_root=str(path), dataset_name=name)
        for path, name in ((root, 'first'), (other, 'second'))
    ]
    dataset = ROOT_DATASETS.build(dict(type='ConcatDataset', datasets=sets))
    assert [dataset.get_data_info(i)['dataset_name'] for i in range(3)] == ['first', 'first', 'second']


def test_training_pipeline_of_the_config_is_the_released_one():
    """The pipeline, its random parts off, against the released steps: Pillow's RGB, its bilinear and nearest resize."""
    register_all_modules(init_default_scope=True)
    source = data_root('sod')
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/cod_416x416.py')
    settings = config.train_dataloader.dataset
    for transform in settings.pipeline:
        if transform.type == 'RandomFlip':
            transform.prob = 1.0
        if transform.type == 'mmplugins.ColorJitter':
            transform.update(brightness=0, contrast=0, saturation=0, hue=0)
    settings.update(data_root=str(source), data_prefix=dict(img_path='train/Imgs', seg_map_path='train/GT'), indices=2)
    sample = DATASETS.build(settings)[1]
    info = sample['data_samples'].metainfo
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    image = Image.open(info['img_path']).convert('RGB').transpose(flip).resize((416, 416), Image.Resampling.BILINEAR)
    mask = Image.open(info['seg_map_path']).convert('L').transpose(flip).resize((416, 416), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(sample['inputs'].numpy()[::-1].transpose(1, 2, 0), np.asarray(image))
    label = sample['data_samples'].gt_sem_seg.data
    assert label.shape == (1, 416, 416)
    np.testing.assert_array_equal(label[0].numpy(), np.asarray(mask) > 127)


@pytest.mark.parametrize('name', ['cod_416x416', 'duts_416x416', 'sod_224x224'])
def test_configs_name_their_folders(name, tmp_path, monkeypatch):
    """Every data set of a config is built from the tree that its comment shows, and gives a sample."""
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    monkeypatch.chdir(tmp_path)
    folders = {
        'cod_416x416': ['COD/TrainDataset', *(f'COD/TestDataset/{s}' for s in ('CHAMELEON', 'CAMO', 'COD10K', 'NC4K'))],
        'sod_224x224': ['sod/train', 'sod/test'],
        'duts_416x416': ['DUTS/DUTS-TR/DUTS-TR-', 'DUTS/DUTS-TE/DUTS-TE-'],
    }[name]
    for folder in folders:
        image, mask = ('Image', 'Mask') if name.startswith('duts') else ('/Imgs', '/GT')
        write_image(tmp_path / f'data/{folder}{image}' / 'a.jpg')
        write_mask(tmp_path / f'data/{folder}{mask}' / 'a.png')

    train = ROOT_DATASETS.build(config.train_dataloader.dataset)
    side = int(name.rpartition('x')[2])
    assert train[0]['inputs'].shape == (3, side, side)
    assert train[0]['data_samples'].gt_sem_seg.data.shape == (1, side, side)
    test = ROOT_DATASETS.build(config.test_dataloader.dataset)
    sample = test[0]['data_samples']
    assert test[0]['inputs'].shape == (3, side, side)
    assert sample.gt_sem_seg.data.shape == (1, HEIGHT, WIDTH)
    assert tuple(sample.ori_shape) == (HEIGHT, WIDTH)
    if name.startswith('cod'):
        found = [test[i]['data_samples'].dataset_name for i in range(len(test))]
        assert found == ['CHAMELEON', 'CAMO', 'COD10K', 'NC4K']
    assert len(ROOT_DATASETS.build(config.val_dataloader.dataset)) == 1


@pytest.mark.slow
def test_real_data_passes_the_checks():
    source = data_root('sod')
    for split, count in (('train', 200), ('test', 100)):
        prefix = dict(img_path=f'{split}/Imgs', seg_map_path=f'{split}/GT')
        assert len(build(source, data_prefix=prefix)) == count


# Files as users have them ---------------------------------------------------------------------------------------------


def turn(path, tag, size=(WIDTH, HEIGHT)):
    """Writes an image, bright in the left half, with an orientation tag."""
    write_mask(path, size=size)
    exif = Image.Exif()
    exif[274] = tag
    with Image.open(path) as image:
        Image.merge('RGB', [image] * 3).save(path, exif=exif, quality=95)


@pytest.mark.parametrize('tag', [3, 6])
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_an_orientation_tag_that_the_loader_applies_is_told_at_start(root, tag, suffix):
    register_all_modules()
    (root / 'Imgs/a.jpg').unlink()
    turn(root / f'Imgs/a.{suffix}', tag)
    for backend in ('cv2', 'pillow'):
        load = dict(type='LoadImageFromFile', imdecode_backend=backend)
        pipeline = [load, dict(type='mmplugins.LoadBinaryMask')]
        for test_mode in (False, True):
            with pytest.raises(
                ValueError, match=rf"a\.{suffix} has the EXIF orientation tag {tag}.*color_type='color_ig"
            ):
                build(root, pipeline=pipeline, test_mode=test_mode)
        with pytest.raises(ValueError, match=rf'a\.{suffix} has the EXIF orientation tag {tag}'):
            build(root, pipeline=pipeline, check_files=False)[0]

        stored = dict(load, color_type='color_ignore_orientation')
        results = build(root, pipeline=[stored, dict(type='mmplugins.LoadBinaryMask')])[0]
        assert np.array_equal(results['img'][..., 0] > 127, results['gt_seg_map'] > 0)


def test_names_with_suffixes_in_a_list(root):
    """They say which of two files; names that hold dots are names."""
    write_image(root / 'Imgs/b.png', 30)
    write_image(root / 'Imgs/c.d.jpg')
    write_mask(root / 'GT/c.d.png')
    (root / 'list.txt').write_text('a.jpg\nb.png\nc.d\n', encoding='utf-8-sig')
    dataset = build(root, ann_file='list.txt')
    assert names(dataset) == ['a.jpg', 'b.png', 'c.d.jpg']
    assert dataset.get_data_info(1)['seg_map_path'] == str(root / 'GT/b.png')
    (root / 'list.txt').write_text('b\n')
    with pytest.raises(ValueError, match=r'b: two image files, .*give img_suffix the suffix to use'):
        build(root, ann_file='list.txt')
    (root / 'list.txt').write_text('b\n')
    assert names(build(root, ann_file='list.txt', img_suffix='.png')) == ['b.png']


def test_more_pixels_than_pillow_opens(root, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', WIDTH * HEIGHT // 2 - 1)
    with pytest.raises(
        ValueError, match=r'Imgs/a\.jpg has more pixels than Pillow opens, 46 .*MAX_IMAGE_PIXELS = None'
    ):
        build(root)
