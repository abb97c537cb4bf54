"""Breaks the files of tiny data sets on purpose, trains on them, and prints what each run says.

    python tests/reliability/bad_data.py                 # every kind of fault in every family of configs
    python tests/reliability/bad_data.py coco --kinds truncated outside

A family is a data set as the configs have it, with a network that is as small as can be; a kind of fault is a file that
is broken. 'gone' and 'unreadable' break a file in the middle of the run, which loads with two workers.
"""

import json
import os
import re
import signal
import sys
import tempfile
import traceback
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image

from tests.tools.tiny_run import ROOT, make_data, write_config
from tests.tools.tiny_video import make_videos, write_video_config
from tools import train

SIZE = (48, 64)  # height, width of the images of COCO
LATE = ('gone', 'unreadable')


@HOOKS.register_module()
class BreakHook(Hook):
    """Breaks a file when an iteration is through."""

    def __init__(self, path: str, kind: str, iteration: int = 2) -> None:
        self.path, self.kind, self.iteration = Path(path), kind, iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            FAULTS[self.kind](self.path)


# Faults of one file ---------------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b'')


def resized(path: Path) -> None:
    with Image.open(path) as image:
        small = image.resize((image.width - 7, image.height - 3), Image.Resampling.NEAREST)
    small.save(path)


def out_of_range(path: Path) -> None:
    with Image.open(path) as image:
        mode, palette, values = image.mode, image.getpalette(), np.array(image)
    values[:5, :5] = 77
    new = Image.fromarray(values)
    if mode == 'P':
        new.putpalette(palette)
    new.save(path)


def rgba(path: Path) -> None:
    with Image.open(path) as image:
        new = image.convert('RGBA')
    new.save(path, format='PNG')


def transparent(path: Path) -> None:
    with Image.open(path) as image:
        new = image.convert('RGBA')
    new.putalpha(99)
    new.save(path, format='PNG')


def sixteen_bits(path: Path) -> None:
    with Image.open(path) as image:
        values = np.array(image if image.mode in ('L', 'P') else image.convert('L')).astype(np.uint16)
    values[:5, :5] = 300
    Image.fromarray(values).save(path, format='PNG')


FAULTS: dict[str, Callable[[Path], object]] = dict(
    truncated=truncated, empty=empty, resized=resized, label=out_of_range, rgba=rgba,
    transparent=transparent, bits=sixteen_bits, gone=Path.unlink, unreadable=truncated,
)  # fmt: skip


# Families: make the data; give the config, an image, its mask, the list of files --------------------------------------


def folder(where: Path, camvid: bool = False) -> tuple[Path, Path, Path | None, Path | None]:
    data = make_data(where / 'data')
    config = write_config(where / 'config.py', data, iterations=6)
    if camvid:
        text = config.read_text().replace("type='BaseSegDataset'", "type='mmplugins.CamVidDataset'")
        config.write_text(
            re.sub(r'metainfo=dict\(classes=.*?\]\]\)\)', ')', text, flags=re.DOTALL).replace(
                'num_classes=3', 'num_classes=11'
            )
        )
    return config, data / 'images' / '1.png', data / 'annotations' / '1.png', None


def binary(where: Path) -> tuple[Path, Path, Path | None, Path | None]:
    data = make_data(where / 'data')
    for path in (data / 'annotations').iterdir():
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    config = write_config(where / 'config.py', data, iterations=6)
    text = config.read_text().replace("type='BaseSegDataset'", "type='mmplugins.BinaryMaskDataset'")
    text = re.sub(r",\s*img_suffix='.png',\s*metainfo=dict\(.*?\]\]\)\)", ')', text, flags=re.DOTALL)
    text = text.replace("dict(type='LoadAnnotations')", "dict(type='mmplugins.LoadBinaryMask')")
    config.write_text(text.replace('num_classes=3', 'num_classes=2'))
    return config, data / 'images' / '1.png', data / 'annotations' / '1.png', None


def _coco(where: Path, kind: str, config: str, options: str) -> tuple[Path, Path, Path | None, Path | None]:
    sys.path.insert(0, str(ROOT / 'tools' / 'dataset_converters'))
    import make_sample_data as maker

    data = where / 'data'
    for number, split in enumerate(('train', 'val')):
        scenes = (maker.draw_scene(np.random.default_rng([0, number, i]), *SIZE) for i in range(6))
        maker.KINDS[kind](data, split, ((f'{i:05d}', scene) for i, scene in enumerate(scenes)))
    path = where / 'config.py'
    path.write_text(f'_base_ = {str(ROOT / "configs" / config)!r}\n' + options.replace('DATA', f'{data}/'))
    image = data / 'images' / 'train' / '00001.png'
    kinds = dict(instance='instances', panoptic='panoptic')
    masks = data / 'annotations' / 'panoptic_train' / '00001.png'
    return path, image, masks if kind == 'panoptic' else None, data / 'annotations' / f'{kinds[kind]}_train.json'


LOADERS = """
classes = ('circle', 'square', 'triangle', 'star', 'ring', 'cross', 'pole')
def loader(split):
    return dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
        data_root='DATA', ann_file=f'annotations/instances_{split}.json', metainfo=dict(classes=classes, palette=None),
        data_prefix=dict(img=f'images/{split}/')))
train_dataloader = loader('train')
val_dataloader = loader('val')
test_dataloader = loader('val')
val_evaluator = dict(ann_file='DATAannotations/instances_val.json')
test_evaluator = val_evaluator
"""
SHORT = '\ndefault_hooks = dict(checkpoint=dict(by_epoch=False, interval=2, save_best=None), logger=dict(interval=1))\n'


def detection(where: Path) -> tuple[Path, Path, Path | None, Path | None]:
    options = LOADERS + 'model = dict(bbox_head=dict(num_classes=7))\ntrain_cfg = dict(max_epochs=2, val_interval=9)\n'
    return _coco(where, 'instance', 'detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py', options + SHORT)


def instance(where: Path) -> tuple[Path, Path, Path | None, Path | None]:
    options = LOADERS + (
        'model = dict(panoptic_head=dict(num_things_classes=7, loss_cls=dict(class_weight=[1.0] * 7 + [0.1])),\n'
        '    panoptic_fusion_head=dict(num_things_classes=7))\ntrain_cfg = dict(max_iters=6, val_interval=99)\n'
    )
    return _coco(where, 'instance', 'mask2former/mask2former_r18_d128_1xb4-1k_coco128-256x256.py', options + SHORT)


def panoptic(where: Path) -> tuple[Path, Path, Path | None, Path | None]:
    options = (
        "train_dataloader = dict(batch_size=2, dataset=dict(data_root='DATA'))\n"
        "val_dataloader = dict(dataset=dict(data_root='DATA'))\ntest_dataloader = val_dataloader\n"
        'train_cfg = dict(max_iters=6, val_interval=99)\n'
        "val_evaluator = dict(ann_file='DATAannotations/panoptic_val.json', "
        "seg_prefix='DATAannotations/panoptic_val/')\n"
        'test_evaluator = val_evaluator\n'
    )
    config = 'mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py'
    return _coco(where, 'panoptic', config, options + SHORT)


def video(where: Path) -> tuple[Path, Path, Path | None, Path | None]:
    data = make_videos(where / 'data')
    config, _ = write_video_config(where, data)
    text = config.read_text().replace(f"{str(ROOT)!r} + '", f"'{ROOT}") + (
        '\ntrain_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root='
        f'{str(data)!r}))\ntrain_cfg = dict(max_iters=6, val_interval=100)\n'
    )
    config.write_text(text)
    frame = data / 'JPEGImages' / '480p' / 'dog' / '00002.jpg'
    return config, frame, data / 'Annotations' / '480p' / 'dog' / '00002.png', data / 'ImageSets/2017/train.txt'


FAMILIES = dict(
    folder=folder, camvid=lambda where: folder(where, camvid=True), binary=binary, detection=detection,
    instance=instance, panoptic=panoptic, video=video,
)  # fmt: skip

# Kinds ----------------------------------------------------------------------------------------------------------------


def change_json(path: Path, kind: str) -> None:
    content = json.loads(path.read_text())
    if kind == 'categories':
        content['categories'] = [one for one in content['categories'] if one['name'] != 'star']
        numbers = {one['id'] for one in content['categories']}
        content['annotations'] = [
            one for one in content['annotations'] if one.get('category_id') in numbers or 'segments_info' in one
        ]
    elif kind == 'outside':
        for one in content['annotations']:
            for part in one.get('segments_info', [one])[:1]:
                part['bbox'][0] += 40
    elif kind == 'no_entries':
        content.update(images=[], annotations=[])
    path.write_text(json.dumps(content))


def prepare(family: str, kind: str, where: Path) -> list[str] | None:
    """Makes the data and breaks them; gives the command line, or None where the kind does not apply."""
    config, image, mask, listing = FAMILIES[family](where)
    options = []
    late = f"\ncustom_hooks = [dict(type='mmplugins.IterSeedHook'), dict(type='BreakHook', path={str(image)!r}"
    if kind in LATE:
        text = config.read_text() + late + f', kind={kind!r})]\n'
        text += '\ntrain_dataloader.update(num_workers=2, persistent_workers=True)\n'
        config.write_text(text)
        options = ['train_cfg.max_epochs=8' if family == 'detection' else 'train_cfg.max_iters=30']
    elif kind == 'path':
        prefix = {'folder': 'img_path', 'camvid': 'img_path', 'binary': 'img_path', 'video': 'img_path'}
        options = [f'train_dataloader.dataset.data_prefix.{prefix.get(family, "img")}=nowhere']
    elif kind in ('empty_list', 'categories', 'outside', 'no_entries'):
        if listing is None or (listing.suffix == '.txt' and kind != 'empty_list'):
            return None
        if kind == 'empty_list':
            empty(listing)
        else:
            change_json(listing, kind)
    elif '_' in kind:
        what, _, fault = kind.partition('_')
        path = image if what == 'image' else mask
        if path is None:
            return None
        FAULTS[fault](path)
    return [str(config), '--work-dir', str(where / 'work'), *(['--cfg-options', *options] if options else [])]


KINDS = (
    *('image_truncated', 'image_empty', 'image_resized', 'image_rgba', 'image_transparent', 'image_bits', 'path'),
    *('mask_truncated', 'mask_resized', 'mask_label', 'mask_rgba', 'mask_bits'),
    *('empty_list', 'no_entries', 'categories', 'outside', *LATE),
)


def run(arguments: list[str], log: Path, seconds: int = 240) -> str:
    """Trains in a child process; gives what the run says at its end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        torch.set_num_threads(1)
        said = 'trained'
        try:
            signal.alarm(seconds)
            train.main(arguments)
        except BaseException as error:  # that is what is asked for
            traceback.print_exc()
            said = f'{type(error).__name__}: {error}'
        log.with_suffix('.said').write_text(said)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its workers
    return log.with_suffix('.said').read_text() if status == 0 else f'killed by signal {status}: it hung'


def main() -> None:
    """Tries the kinds of faults, and prints what comes."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('families', nargs='*', help=f'of {", ".join(FAMILIES)}')
    parser.add_argument('--kinds', nargs='+', default=KINDS, help=f'of {", ".join(KINDS)}')
    args = parser.parse_args()
    for family in args.families or FAMILIES:
        for kind in args.kinds:
            with tempfile.TemporaryDirectory() as name:
                where = Path(name)
                arguments = prepare(family, kind, where)
                if arguments is None:
                    continue
                said = run(arguments, where / 'log')
                warned = [line for line in (where / 'log').read_text().splitlines() if ' WARNING - data: ' in line]
                print(f'== {family} | {kind}\n{said[-1500:]}', *warned, sep='\n', flush=True)


if __name__ == '__main__':
    main()
