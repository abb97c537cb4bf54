"""python -m mmplugins.doctor CONFIG: a mistake a test, put into a config that has none."""

import copy
import json
import random
from urllib.error import URLError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import nn

from mmplugins.doctor import names, step, weights
from mmplugins.doctor.__main__ import main
from mmplugins.doctor.check import check
from mmplugins.doctor.classes import check_classes
from mmplugins.doctor.clips import check_clips
from mmplugins.doctor.report import Report
from mmplugins.hosts import problem_with
from tests.locations import ROOT
from tests.toolboxes import need_those_of
from tests.tools.tiny_run import make_data, write_config

if problem := problem_with('mmseg'):
    pytest.skip(f'the tiny network is of mmseg: {problem}', allow_module_level=True)

PANOPTIC = ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py'
AOT = ROOT / 'configs/aot/aot_t_scratch_1xb3-1500_davis-sod-161x289.py'
CONFIGS = [path for path in sorted((ROOT / 'configs').rglob('*.py')) if '_base_' not in path.parts]
CONFIGS = [pytest.param(path, id=path.stem) for path in CONFIGS]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp('data') / 'set')


@pytest.fixture(scope='module')
def path(data, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp('config') / 'tiny.py', data)


@pytest.fixture
def cfg(path):
    init_default_scope('mmseg')
    return Config.fromfile(path)


@pytest.fixture
def clips():
    """A config of videos, of which no file is read."""
    init_default_scope('mmseg')
    return Config.fromfile(AOT)


@pytest.fixture
def panoptic():
    """A config of which no file is read."""
    if problem := problem_with('mmdet'):
        pytest.skip(f'the head is of mmdet: {problem}')
    init_default_scope('mmdet')
    return Config.fromfile(PANOPTIC)


def fails(cfg, name, text, mend, level='error', **settings):
    """Checks that the first finding of this level says so."""
    found = [finding for finding in check(cfg, **settings).findings if finding.level == level]
    assert found, 'nothing was found'
    assert found[0].check == name
    assert text in found[0].text
    assert mend in found[0].mend
    return found


def generators():
    """States of the random generators."""
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def copied(data, folder):
    """The data set where its files may be changed."""
    for name in ('images', 'annotations'):
        (folder / name).mkdir(parents=True)
        for file in (data / name).iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
    return folder


# smoke


def test_a_config_without_a_mistake(cfg):
    before = copy.deepcopy(cfg.to_dict())
    states = generators()
    report = check(cfg, data=True)
    assert [str(finding) for finding in report.findings if finding.level != 'ok'] == []
    assert [finding.check for finding in report.findings] == [
        *('types', 'weights', 'classes', 'model', 'data', 'labels', 'data', 'labels', 'loss', 'gradient', 'memory')
    ]
    assert report.summary == '0 errors, 0 warnings'
    # nothing is left changed
    assert cfg.to_dict() == before
    assert states == generators()


def test_without_data_no_file_is_read(cfg):
    cfg.train_dataloader.dataset.data_root = 'nowhere'
    assert [finding.check for finding in check(cfg).findings] == ['types', 'weights', 'classes', 'model']


def test_command_line(path, capsys):
    """Exit code 0 without an error, 1 with one; a mistake has its remedy below."""
    with pytest.raises(SystemExit) as ended:
        main([str(path), '--data', '--files', '4'])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith('ok       labels      train_dataloader.dataset: 4 of 6 files: ') for line in lines)
    assert lines[-1] == '0 errors, 0 warnings'
    with pytest.raises(SystemExit) as ended:
        main([str(path), '--cfg-options', 'model.decode_head.num_classes=4'])
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith('error    classes     model.decode_head'))
    assert lines[place + 1].startswith(' ' * 21 + '-> set model.decode_head.num_classes=3')
    assert lines[-1] == '1 error, 0 warnings'


def test_wrong_command_lines(path, capsys):
    with pytest.raises(SystemExit, match=r'doctor: error: config nowhere\.py is no file'):
        main(['nowhere.py'])
    with pytest.raises(SystemExit):
        main([str(path), '--files', '0'])
    assert '--files takes a number from 1 on, got 0' in capsys.readouterr().err


def test_without_arguments_the_installation_is_told(capsys):
    main([])
    assert capsys.readouterr().out.startswith('Versions\n')


@pytest.mark.parametrize('path', CONFIGS)
def test_our_configs_have_no_mistake(path):
    cfg = Config.fromfile(path)
    need_those_of(cfg.default_scope, cfg.model)
    init_default_scope(cfg.default_scope)
    cfg.load_from = None  # a file that the user converts
    report = Report()
    names.check_names(report, cfg)
    weights.check_weights(report, cfg)
    check_classes(report, cfg)
    check_clips(report, cfg)
    assert [str(finding) for finding in report.findings if finding.level != 'ok'] == []
    assert {finding.check for finding in report.findings} == {'types', 'weights', 'classes'}


# types


def test_unknown_type(cfg):
    cfg.model.decode_head.type = 'FCNHed'
    fails(cfg, 'types', "model.decode_head.type: 'FCNHed' is in no registry; did you mean FCNHead", 'custom_imports')


def test_type_of_a_package_that_is_missing(cfg):
    cfg.model.backbone.type = 'mmnowhere.ResNet'
    fails(cfg, 'types', 'mmnowhere.ResNet is of the package mmnowhere, which is not installed', 'install mmnowhere')


def test_unknown_argument_of_a_hook_and_a_transform(cfg):
    cfg.default_hooks.logger.intervall = 3
    cfg.train_dataloader.dataset.pipeline[1].with_box = True
    _, second = fails(
        cfg,
        'types',
        'train_dataloader.dataset.pipeline.1.with_box: LoadAnnotations has no such argument',
        'its arguments are ',
    )
    assert 'logger.intervall: LoggerHook has no such argument; did you mean interval' in second.text


def test_type_whose_toolbox_is_missing(cfg, monkeypatch):
    reason = 'mmx is not installed; run `pip install mmx`'
    monkeypatch.setattr(names, 'find', lambda name: (type('X', (), {'missing_host': reason}), 'model'))
    fails(cfg, 'types', 'cannot be built here', reason)


def test_type_that_does_not_import(cfg, monkeypatch):
    def find(name):
        raise ImportError('No module named x')

    monkeypatch.setattr(names, 'find', find)
    fails(cfg, 'types', 'cannot be imported (ImportError: No module named x)', 'install what it needs')


def test_names_of_other_libraries_are_left_alone(cfg):
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='Albu', transforms=[dict(type='Blur')]))
    cfg.model.test_cfg.nms = dict(type='nms', iou_threshold=0.5)
    report = Report()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, 'find', lambda name, find=names.find: (dict, None) if name == 'Albu' else find(name))
        names.check_names(report, cfg)
    assert [finding.level for finding in report.findings] == ['ok']


def test_names_that_no_registry_has(cfg):
    """mmdet's RoI extractors take layers from mmcv.ops, its FPG has names of functions."""
    cfg.model.roi_extractor = dict(roi_layer=dict(type='RoIAlign'), trans=dict(type='last_conv'))
    cfg.train_dataloader.dataset.pipeline[0].type = 'RoIAlign'
    report = Report()
    names.check_names(report, cfg)
    assert [finding.text.partition(':')[0] for finding in report.findings] == [
        'train_dataloader.dataset.pipeline.0.type'
    ]


def test_arguments_that_a_class_hands_on():
    class Base:
        def __init__(self, a, *, b=1):
            pass

    class Derived(Base):
        def __init__(self, c, **kwargs):
            super().__init__(**kwargs)

    class Open(Derived):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class Anything:
        def __init__(self, **kwargs):
            pass

    assert names.arguments(Derived) == names.arguments(Open) == {'a', 'b', 'c'}
    assert names.arguments(Anything) is None


# weights


def weighted(cfg, path):
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    return cfg


def test_local_weights(cfg, tmp_path):
    fails(
        weighted(cfg, 'no.pth'), 'weights', 'backbone.init_cfg.checkpoint: there is no file no.pth', 'correct the path'
    )
    torch.save({}, tmp_path / 'some.pth')
    report = Report()
    weights.check_weights(report, weighted(cfg, str(tmp_path / 'some.pth')))
    assert [finding.level for finding in report.findings] == ['ok']
    cfg.load_from = 'run.pth'
    cfg.model.backbone.init_cfg = None
    fails(cfg, 'weights', 'load_from: there is no file run.pth', 'correct the path')


def test_weights_of_unknown_schemes_and_names(cfg):
    fails(
        weighted(cfg, 'openmmlab2://resnet50_v1c'),
        'weights',
        'has the unknown scheme openmmlab2; did you mean openmmlab',
        'give a file, or one of the schemes',
    )
    fails(
        weighted(cfg, 'open-mmlab://resnet50_v1x'), 'weights', "no weights 'resnet50_v1x'; did you mean", 'correct it'
    )


def test_weights_that_need_torchvision(cfg, monkeypatch):
    monkeypatch.setattr(weights, 'find_spec', lambda name: None)
    fails(
        weighted(cfg, 'torchvision://resnet50'),
        'weights',
        'needs torchvision, which is not installed',
        'https://download.pytorch.org/models/',
    )


def test_downloads(cfg, tmp_path, monkeypatch):
    """Nothing is asked for unless it is to be; what is in the cache is known."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    asked = []

    def answer(request, timeout):
        asked.append((request.full_url, request.method))
        raise URLError('no route')

    monkeypatch.setattr(weights, 'urlopen', answer)
    weighted(cfg, 'https://host/models/net-1.pth')
    report = Report()
    weights.check_weights(report, cfg)
    assert 'will be downloaded (not tried; --network does)' in report.findings[0].text
    assert asked == []
    fails(cfg, 'weights', 'cannot be reached (URLError', f'put it at {tmp_path}/checkpoints/net-1.pth', network=True)
    assert asked == [('https://host/models/net-1.pth', 'HEAD')]
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints/net-1.pth').write_text('')
    report = Report()
    weights.check_weights(report, cfg, network=True)
    assert 'was downloaded before' in report.findings[0].text


def test_weights_of_a_server(cfg, monkeypatch, tmp_path):
    class Answer:
        headers = {'Content-Length': str(3 * 2**20)}

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(weights, 'urlopen', lambda request, timeout: Answer())
    report = Report()
    weights.check_weights(report, weighted(cfg, 'open-mmlab://resnet50_v1c'), network=True)
    assert report.findings[0].level == 'ok'
    assert report.findings[0].text.endswith('.pth answers (3 MiB)')


# classes


def test_head_of_other_classes(cfg):
    cfg.model.decode_head.num_classes = 4
    fails(
        cfg,
        'classes',
        'model.decode_head.num_classes is 4, train_dataloader.dataset has 3 classes (ground, left, right)',
        'set model.decode_head.num_classes=3',
    )


def test_classes_as_a_text(cfg):
    """One class without the comma that makes a tuple."""
    cfg.train_dataloader.dataset.metainfo.classes = 'person'
    fails(cfg, 'classes', "metainfo.classes is the text 'person'", "classes=('person',), with the comma")


def test_classes_in_capitals(cfg):
    cfg.train_dataloader.dataset.metainfo = dict(CLASSES=('a', 'b', 'c'))
    fails(cfg, 'classes', 'metainfo has CLASSES, which is not read', 'write it small')


def test_validation_of_other_classes(cfg):
    cfg.val_dataloader.dataset.metainfo.classes = ('ground', 'right', 'left')
    fails(cfg, 'classes', 'val_dataloader.dataset has 3 classes (ground, right, left)', 'in the same order')


def test_joined_data_sets_are_looked_into(cfg):
    dataset = cfg.train_dataloader.dataset
    other = copy.deepcopy(dataset)
    other.metainfo.classes = ('ground', 'left', 'middle')
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, other])
    fails(cfg, 'classes', 'train_dataloader.dataset.datasets.1 has 3 classes (ground, left, middle)', 'same metainfo')


def test_palette_too_short(panoptic):
    panoptic.train_dataloader.dataset.metainfo.palette = [[0, 0, 0]]
    fails(panoptic, 'classes', '8 classes and a palette of 1', 'give each class a colour', level='warning')


def test_data_set_that_cannot_be_built(cfg):
    cfg.train_dataloader.dataset.pipeline[2].prob = 7
    fails(cfg, 'classes', 'train_dataloader.dataset cannot be built: ', 'mend the arguments of the data set')


def test_data_sets_that_look_for_their_files(cfg):
    """Their classes are known all the same; a missing folder is told where data are read."""
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset = dict(
            type='STAREDataset', data_root='nowhere', data_prefix=dict(img_path='a')
        )
    fails(cfg, 'classes', 'num_classes is 3, train_dataloader.dataset has 2 classes (background, vessel)', '=2')


def test_data_sets_whose_files_tell_their_classes(cfg, monkeypatch):
    def build(config):
        raise FileNotFoundError('names.txt')

    monkeypatch.setattr('mmplugins.doctor.classes.DATASETS.build', build)
    del cfg.train_dataloader.dataset.metainfo
    fails(cfg, 'classes', 'tells its classes only where its files are', 'check it where', level='warning')


def test_more_objects_than_identities(clips):
    """A training fails only where a clip has them; defaults of a transform count, those of ``pre_transform`` do not."""
    clips.model.max_objects = 9
    report = Report()
    check_clips(report, clips)
    place = 'train_dataloader.dataset.datasets'
    assert [(finding.level, finding.text, finding.mend) for finding in report.findings] == [
        (
            'error',
            f'{place}.{transform} numbers up to 10 objects, model.max_objects is 9',
            'give both the same max_objects',
        )
        for transform in (
            '0.dataset.pipeline.5: MergeClips',
            '1.pipeline.2: SyntheticClip',
            '1.pipeline.4: MergeClips',
        )
    ]
    del clips.model.max_objects  # the model's default is 10
    clips.train_dataloader.dataset.datasets[1].pipeline[4].max_objects = 11
    fails(clips, 'clips', 'MergeClips numbers up to 11 objects, model.max_objects is 10', 'give both')
    clips.train_dataloader.dataset.datasets[1].pipeline[4].max_objects = None  # no number: building it tells
    report = Report()
    check_clips(report, clips)
    assert report.findings == []


def test_models_that_are_asked_with_texts(cfg):
    """Tested on other classes than trained on, on purpose."""
    cfg.model.decode_head.type = 'SideAdapterCLIPHead'
    cfg.val_dataloader.dataset.metainfo.classes = ('ground', 'right', 'top')
    report = Report()
    check_classes(report, cfg)
    assert [finding.level for finding in report.findings] == ['ok']


def test_heads_that_count_something_else(cfg):
    cfg.model.auxiliary_head = dict(type='STDCHead', num_classes=2)
    report = Report()
    check_classes(report, cfg)
    assert [finding.level for finding in report.findings] == ['ok']


def test_class_weights(cfg):
    """One a class in a semantic head."""
    cfg.model.decode_head.loss_decode.class_weight = [1.0, 2.0]
    fails(cfg, 'classes', 'loss_decode.class_weight has 2 numbers, 3 are needed (one a class)', 'give 3 numbers')


def test_things(panoptic):
    """mmdetection 8414."""
    panoptic.model.panoptic_head.num_things_classes = 80
    fails(panoptic, 'classes', 'model.panoptic_head has 80 things and 1 stuff', 'num_things_classes=7')


def test_fusion_head_forgotten(panoptic):
    """mmdetection 10007."""
    del panoptic.model.panoptic_fusion_head.num_things_classes
    found = fails(panoptic, 'classes', 'model.panoptic_fusion_head has 80 things and 1 stuff', '80 and 53')
    assert any('heads disagree: model.panoptic_head 7 things and 1 stuff' in finding.text for finding in found)


def test_class_weights_with_no_object(panoptic):
    """mmsegmentation 3811: the no-object class has one too."""
    panoptic.model.panoptic_head.loss_cls.class_weight = [1.0] * 8
    fails(
        panoptic, 'classes', 'has 8 numbers, 9 are needed (one a class and one for no object)', 'set class_weight anew'
    )


def test_things_left_over(panoptic):
    """mmdetection 12338: classes are given, thing_classes stay those of COCO."""
    for name in ('train', 'val', 'test'):
        panoptic[f'{name}_dataloader'].dataset.metainfo = dict(classes=('a', 'b'))
    fails(panoptic, 'classes', 'metainfo has 2 classes, but 80 thing_classes and 53', 'give all three in metainfo')


def test_stuff_before_things(panoptic):
    """mmdetection 12305."""
    meta = dict(classes=('other', 'field'), thing_classes=('field',), stuff_classes=('other',))
    for name in ('train', 'val', 'test'):
        panoptic[f'{name}_dataloader'].dataset.metainfo = meta
    fails(panoptic, 'classes', 'classes do not begin with thing_classes', 'classes = thing_classes + stuff_classes')


def test_things_of_a_transform(panoptic):
    place, step_of = next(
        (i, one) for i, one in enumerate(panoptic.train_dataloader.dataset.pipeline) if 'num_things_classes' in one
    )
    step_of.num_things_classes = 6
    fails(panoptic, 'classes', f'pipeline.{place}.num_things_classes is 6, ', 'num_things_classes=7')


# data


def test_missing_folder(cfg):
    cfg.train_dataloader.dataset.data_root = 'nowhere'
    fails(
        cfg, 'data', "train_dataloader.dataset.data_root is 'nowhere', and there is no such folder", 'link', data=True
    )


def test_no_files(cfg, tmp_path, data):
    copied(data, tmp_path / 'set')
    for file in (tmp_path / 'set/images').iterdir():
        file.unlink()
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'set')
    fails(cfg, 'data', 'train_dataloader.dataset has no files', 'suffixes and filter_cfg', data=True)


def test_folder_of_images_that_is_missing(cfg):
    cfg.train_dataloader.dataset.data_prefix.img_path = 'nowhere'
    fails(cfg, 'data', 'train_dataloader.dataset cannot be read: ', 'mend what the error names', data=True)


def test_batch_larger_than_the_data(cfg):
    cfg.train_dataloader.batch_size = 16
    fails(cfg, 'data', '6 files, a batch takes 16', 'lower batch_size', data=True)


def test_faulty_files(cfg, tmp_path, data):
    """Three are named, the others counted."""
    folder = copied(data, tmp_path / 'set')
    for index in range(5):
        (folder / f'images/{index}.png').write_text('no image')
    cfg.train_dataloader.dataset.data_root = str(folder)
    found = fails(cfg, 'data', f'{folder}/images/', 'mend the file or the pipeline', data=True)
    assert len(found) == 4
    assert found[-1].text == 'train_dataloader.dataset: 5 of 6 files fail'


def test_coloured_label_maps(cfg, tmp_path, data):
    folder = copied(data, tmp_path / 'set')
    for file in (folder / 'annotations').iterdir():
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(file)
    cfg.train_dataloader.dataset.data_root = str(folder)
    fails(cfg, 'data', 'the label map has 3 channels: a coloured PNG', 'mend the file or the pipeline', data=True)


@pytest.mark.parametrize(
    ('image', 'text'),
    [
        (Image.new('RGBA', (48, 32), (9, 9, 9, 200)), 'have an alpha channel, which loaders do not keep'),
        (Image.fromarray(np.full((32, 48), 4000, np.uint16)), 'have more than 8 bits (I;16)'),
        (Image.new('RGBA', (48, 32), (9, 9, 9, 255)), None),
    ],
    ids=['transparent', '16 bits', 'opaque'],
)
def test_images_that_lose_something_when_they_are_loaded(cfg, tmp_path, data, image, text):
    folder = copied(data, tmp_path / 'set')
    for index in (0, 1):
        image.save(folder / f'images/{index}.png')
    cfg.train_dataloader.dataset.data_root = str(folder)
    found = [f for f in check(cfg, data=True).findings if f.level == 'warning' and 'images have' in f.text]
    if text is None:
        assert not found
    else:
        assert f'train_dataloader.dataset: 2 of 6 images {text}' in found[0].text
        assert found[0].mend.startswith('save them as RGB images of 8 bits')


def test_label_maps_of_another_size(cfg, tmp_path, data):
    folder = copied(data, tmp_path / 'set')
    for file in (folder / 'annotations').iterdir():
        Image.fromarray(np.zeros((16, 48), np.uint8)).save(file)
    cfg.train_dataloader.dataset.data_root = str(folder)
    fails(cfg, 'data', 'the label map is (16, 48), the image (32, 48) (height, width)', 'mend', data=True)


def test_foreground_as_255_through_the_pipeline(cfg, tmp_path, data):
    """What tests/doctor/test_labels.py says of counts, from files."""
    folder = copied(data, tmp_path / 'set')
    for file in (folder / 'annotations').iterdir():
        Image.fromarray((np.asarray(Image.open(file)) > 0).astype(np.uint8) * np.uint8(255)).save(file)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder)
        loader.dataset.metainfo = dict(classes=('ground', 'thing'), palette=[[0, 0, 0], [255, 255, 255]])
    cfg.model.decode_head.num_classes = 2
    fails(cfg, 'labels', 'and 1 (thing) never occurs: foreground stored as 255?', 'LoadBinaryMask', data=True)


def test_reading_stops_after_a_while(cfg, monkeypatch):
    monkeypatch.setattr('mmplugins.doctor.data.SECONDS', {'train_dataloader': 0.0, 'val_dataloader': 0.0})
    texts = [one.text for one in check(cfg, data=True).findings if one.check == 'data']
    assert [text.partition(' read')[0] for text in texts] == [
        'train_dataloader.dataset: 1 of 6 files',
        'val_dataloader.dataset: 1 of 6 files',
    ]


# model and step


def test_model_that_cannot_be_built(cfg):
    cfg.model.decode_head.chanels = 8
    fails(cfg, 'model', "unexpected keyword argument 'chanels'", 'mend the arguments that the error names')


@MODELS.register_module()
class OddHead(nn.Module):
    """A model whose loss is what a test asks for."""

    def __init__(self, kind, data_preprocessor=None):
        super().__init__()
        self.data_preprocessor = MODELS.build(dict(type='BaseDataPreprocessor'))
        self.used, self.unused = nn.Linear(1, 1), nn.Linear(1, 1)
        self.kind = kind
        if kind == 'frozen':
            self.requires_grad_(False)

    def forward(self, inputs, data_samples, mode):
        value = self.used(torch.ones(1)).sum()
        if self.kind == 'nan':
            value = value * torch.tensor(float('nan'))
        if self.kind == 'zero':
            value = value * 0
        if self.kind == 'fails':
            raise ValueError('no loss')
        return dict(loss_odd=value)

    def parse_losses(self, losses):
        return losses['loss_odd'] + 0 * self.used.bias.sum(), dict(loss=losses['loss_odd'])


@pytest.mark.parametrize(
    ('kind', 'level', 'name', 'text', 'mend'),
    [
        ('nan', 'error', 'loss', 'not finite with initial weights: loss nan', 'divisions in the loss'),
        ('zero', 'warning', 'loss', 'exactly 0: loss', 'all pixels ignored, no object'),
        ('unused', 'warning', 'gradient', '2 of 4 parameters get none: unused.weight', 'find_unused_parameters=True'),
        ('fails', 'error', 'step', 'a batch of 2 fails: ValueError: no loss', 'mend what the error names'),
    ],
)
def test_a_step(cfg, kind, level, name, text, mend):
    report = Report()
    step.check_step(report, cfg, OddHead(kind), [dict(inputs=torch.zeros(3, 4, 4), data_samples=0)])
    found = [one for one in report.findings if one.level == level and one.check == name]
    assert text in found[0].text
    assert mend in found[0].mend


def test_gradients_that_are_not_finite_and_nothing_that_is_trained(cfg):
    report = Report()
    model = OddHead('nan')
    step.check_step(report, cfg, model, [dict(inputs=torch.zeros(3, 4, 4), data_samples=0)])
    assert any('not finite in' in one.text and one.check == 'gradient' for one in report.findings)
    report = Report()
    step._check_gradients(report, OddHead('frozen'))
    assert report.findings[0].level == 'error'
    assert report.findings[0].text == 'no parameter is trained'


def test_optimizer_that_cannot_be_built(cfg):
    cfg.optim_wrapper.optimizer.momentun = 0.9
    fails(cfg, 'step', 'optim_wrapper cannot be built: ', 'mend what the error names', data=True)


def test_memory(cfg):
    """By hand: a linear layer keeps its input, 4 x 8 floats; SGD with momentum keeps a copy of the weights."""
    layer = nn.Linear(8, 2, bias=False)
    saved = step.SavedTensors(layer)
    with saved.count():
        total = layer(torch.ones(4, 8)).sum()
    assert saved.bytes == 4 * 8 * 4
    total.backward()
    report = Report()
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    assert step._optimizer_state(report, cfg, layer) == 2 * 8 * 4
    step._tell_memory(report, 4, layer, 10 * step.MIB, 7 * step.MIB)
    assert 'about 27 MiB a process at batch_size 4' in report.findings[0].text
    assert 'optimizer 7, kept for the backward pass 20' in report.findings[0].text


def test_mixed_precision_is_tried_in_full_precision_on_a_cpu(cfg):
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.1))
    assert not [one for one in check(cfg, data=True).findings if one.level == 'error']


# a detector


@pytest.mark.slow
def test_a_detector(tmp_path):
    """A category spelt otherwise and boxes outside, from files; what is right is trained for a step."""
    if problem := problem_with('mmdet'):
        pytest.skip(f'the detector is of mmdet: {problem}')
    init_default_scope('mmdet')
    for index in range(4):
        Image.fromarray(np.full((48, 64, 3), 40 * index, np.uint8)).save(tmp_path / f'{index}.png')
    images = [dict(id=i, file_name=f'{i}.png', height=48, width=64) for i in range(4)]
    boxes = [dict(id=i, image_id=i, category_id=i % 3, bbox=[8, 8, 20, 20], area=400, iscrowd=0) for i in range(4)]
    classes = [dict(id=i, name=name) for i, name in enumerate(('RBC', 'WBC', 'Platelets'))]

    def write(**changes):
        coco = dict(images=images, annotations=boxes, categories=classes) | changes
        (tmp_path / 'coco.json').write_text(json.dumps(coco))

    cfg = Config.fromfile(ROOT / 'configs/detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py')
    for name in ('train', 'val'):
        cfg[f'{name}_dataloader'].dataset.update(
            data_root=str(tmp_path),
            ann_file='coco.json',
            data_prefix=dict(img='./'),
            metainfo=dict(classes=('RBC', 'WBC', 'Platelets')),
        )
    write()
    report = check(cfg, data=True)
    assert [str(one) for one in report.findings if one.level == 'error'] == []
    assert {'boxes', 'loss', 'gradient', 'memory'} <= {one.check for one in report.findings}
    write(categories=[*classes[:2], dict(id=2, name='platelets')])
    fails(cfg, 'labels', "no category 'Platelets'; it has 'RBC', 'WBC', 'platelets'", 'spell', data=True)
