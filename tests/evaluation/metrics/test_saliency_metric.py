import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import py_sod_metrics as sod
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmplugins.evaluation.metrics import saliency_metric
from mmplugins.evaluation.metrics.saliency_metric import measure, summarize
from mmplugins.registry import METRICS
from tests.locations import ROOT, data_root

KEYS = ['Sm', 'wFm', 'MAE', 'adpEm', 'meanEm', 'maxEm', 'adpFm', 'meanFm', 'maxFm']


def build(**settings):
    return METRICS.build(dict(type='mmplugins.SaliencyMetric', **settings))


def make_sample(probability, mask=None, **meta):
    """A data sample as Evaluator hands it to a metric: probability (H, W) or scores (C, H, W), mask (H, W)."""
    probability = torch.as_tensor(probability)
    sample = dict(seg_logits=dict(data=probability if probability.dim() == 3 else probability[None]))
    if mask is not None:
        sample['gt_sem_seg'] = dict(data=torch.as_tensor(np.asarray(mask)).long()[None])
    return dict(sample, **dict(dict(img_path='images/a.jpg'), **meta))


def random_samples(count, seed=0, **meta):
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        shape = tuple(rng.integers(12, 20, 2))
        mask = np.zeros(shape, dtype=int)
        mask[3 : rng.integers(6, 10), 2 : rng.integers(6, 11)] = 1
        probability = np.clip(0.6 * mask + rng.uniform(-0.2, 0.5, shape), 0, 1).astype(np.float32)
        samples.append(make_sample(probability, mask, img_path=f'{meta.get("dataset_name", "x")}/{i}.jpg', **meta))
    return samples


def direct(pairs):
    """The metrics of (levels, mask) pairs by pysodmetrics alone, as its own README computes them."""
    metrics = sod.Smeasure(), sod.Emeasure(), sod.WeightedFmeasure(), sod.MAE()
    handler = dict(fm=sod.FmeasureHandler(with_adaptive=True, with_dynamic=True, beta=0.3))
    fmeasure = sod.FmeasureV2(metric_handlers=handler)
    for levels, mask in pairs:
        for metric in (*metrics, fmeasure):
            metric.step(pred=levels, gt=(np.asarray(mask) * 255).astype(np.uint8))
    sm, em, wfm, mae = (metric.get_results() for metric in metrics)
    em, fm = em['em'], fmeasure.get_results()['fm']
    result = dict(Sm=sm['sm'], wFm=wfm['wfm'], MAE=mae['mae'])
    result.update(adpEm=em['adp'], meanEm=em['curve'].mean(), maxEm=em['curve'].max())
    return dict(result, adpFm=fm['adaptive'], meanFm=fm['dynamic'].mean(), maxFm=fm['dynamic'].max())


def pair(sample):
    """What the metric must hand to pysodmetrics for a sample whose map has the mask's size."""
    levels = (sample['seg_logits']['data'][0].numpy() * 255).astype(np.uint8)
    return levels, sample['gt_sem_seg']['data'][0].numpy()


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def quarter():
    mask = np.zeros((6, 8), dtype=int)
    mask[:3, :4] = 1
    return mask


def test_equals_pysodmetrics():
    samples = random_samples(5)
    result = evaluate(build(), samples)
    assert list(result) == KEYS
    expected = direct([pair(sample) for sample in samples])
    for key in KEYS:
        assert result[key] == pytest.approx(expected[key], abs=1e-12), key
        assert type(result[key]) is float
        assert 0 < result[key] < 1


def test_perfect_map():
    """48 pixels, 12 of them foreground.

    At 255 of the 256 thresholds the map is the mask: E-measure 48 / 47 (it divides by one pixel less), F-measure 1. At
    threshold 0 all is foreground: alignment 0, so a quarter of E; precision 1/4, recall 1, F 1.3 / 4 / (0.3 / 4 + 1).
    """
    result = evaluate(build(), [make_sample(quarter().astype(np.float32), quarter())])
    expected = dict(Sm=1, wFm=1, MAE=0, adpEm=48 / 47, maxEm=48 / 47, adpFm=1, maxFm=1)
    expected['meanEm'] = (255 + 0.25) / 256 * 48 / 47
    expected['meanFm'] = (255 + 0.325 / 1.075) / 256
    assert result == pytest.approx(expected, abs=1e-9)


def test_inverted_map():
    """The same 48 pixels, every one wrong: MAE 1; an object is found at threshold 0 only, where all is foreground.

    The adaptive threshold is twice the mean, at most 1: it keeps the 36 wrong pixels. Less their means, 1/4 and 3/4,
    mask and map are opposite everywhere: 3/4 and -3/4 in the foreground, -1/4 and 1/4 in the background. So E is 0.
    """
    result = evaluate(build(), [make_sample(1 - quarter().astype(np.float32), quarter())])
    assert result['MAE'] == 1
    assert result['adpFm'] == 0
    assert result['adpEm'] == pytest.approx(0, abs=1e-9)
    assert result['maxEm'] == pytest.approx(0.25 * 48 / 47)
    assert result['meanEm'] == pytest.approx(0.25 * 48 / 47 / 256)
    assert result['maxFm'] == pytest.approx(0.325 / 1.075)
    assert result['meanFm'] == pytest.approx(0.325 / 1.075 / 256)


def test_empty_mask():
    """No object and none found: S-measure 1, MAE 0; E is 48 / 47 above threshold 0, F and weighted F are 0."""
    result = evaluate(build(), [make_sample(np.zeros((6, 8), np.float32), np.zeros((6, 8)))])
    assert result['Sm'] == 1
    assert result['MAE'] == 0
    assert result['maxEm'] == pytest.approx(48 / 47)
    assert result['meanEm'] == pytest.approx(48 / 47 * 255 / 256)
    assert result['wFm'] == result['maxFm'] == result['adpFm'] == 0


def test_full_mask():
    result = evaluate(build(), [make_sample(np.ones((6, 8), np.float32), np.ones((6, 8)))])
    assert result['Sm'] == 1
    assert result['MAE'] == 0
    assert result['wFm'] == pytest.approx(1)
    assert result['maxFm'] == 1


def test_map_is_stretched_to_its_own_range():
    """Levels 100 and 101 are as good as 0 and 255, as pysodmetrics has it."""
    probability = np.where(quarter() == 1, 101.5, 100.5).astype(np.float32) / 255
    result = evaluate(build(), [make_sample(probability, quarter())])
    assert result['MAE'] == 0
    assert result['maxFm'] == 1


def test_curves_are_averaged_before_the_maximum():
    """One map is perfect above level 200, the other up to level 100; no threshold serves both."""
    mask = quarter() == 1
    high, low = np.where(mask, 255, 200), np.where(mask, 100, 0)
    high[5, 7], low[5, 7] = 0, 255  # so that stretching changes nothing
    images = [measure(levels.astype(np.uint8), mask) for levels in (high, low)]
    assert images[0]['Em'].shape == images[0]['Fm'].shape == (256,)
    assert images[0]['Fm'].max() == 1
    summary = summarize(images)
    for key in ('Em', 'Fm'):
        average = (images[0][key] + images[1][key]) / 2
        assert summary[f'max{key}'] == pytest.approx(average.max())
        assert summary[f'mean{key}'] == pytest.approx(average.mean())
        assert summary[f'max{key}'] < (images[0][key].max() + images[1][key].max()) / 2 - 0.1


@pytest.mark.parametrize('place', [(-1, slice(None)), (slice(None), -1), (-1, -1), (slice(-2, None), slice(-1, None))])
def test_an_object_in_the_last_row_or_column(place):
    """A part of the image is then empty: its weight is 0. The perfect map is perfect, another one lower."""
    mask = np.zeros((8, 10), dtype=bool)
    mask[place] = True
    perfect, other = mask.astype(np.float32), np.clip(mask + 0.3, 0, 0.9).astype(np.float32)
    other[0, 0] = 0
    values = [evaluate(build(), [make_sample(one, mask)])['Sm'] for one in (perfect, other)]
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert 0 < values[1] < 0.9


def test_collapsed_predictions_are_told(monkeypatch):
    lines = []
    monkeypatch.setattr(
        saliency_metric, 'print_log', lambda text, **options: lines.append((text, options.get('level')))
    )
    black = make_sample(np.zeros((6, 8), np.float32), quarter())
    good = make_sample(quarter().astype(np.float32), quarter())
    evaluate(build(), [black, black, good])
    (told,) = [text for text, level in lines if level == logging.WARNING]
    assert told.startswith('test set: 2 of 3 maps are of one value, the predictions have collapsed')
    del lines[:]
    evaluate(build(), [black, good, good])
    assert not [text for text, level in lines if level == logging.WARNING]


@pytest.mark.parametrize('map_size', [(416, 416), (8, 10)])
def test_other_sizes_are_resized_as_released(map_size, tmp_path):
    """The released inference: uint8 with the fraction cut off, then Pillow's bilinear resize to the image's size."""
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, map_size).astype(np.float32)
    mask = np.zeros((33, 47), dtype=int)
    mask[5:20, 7:30] = 1
    metric = build(output_dir=str(tmp_path))
    result = evaluate(metric, [make_sample(probability, mask, ori_shape=(33, 47))])
    levels = Image.fromarray(torch.from_numpy(probability).mul(255).byte().numpy())
    levels = np.asarray(levels.resize((47, 33), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.png')), levels)
    assert result == pytest.approx(direct([(levels, mask)]), abs=1e-12)


def test_mask_of_another_size_than_its_image(tmp_path):
    """The PNG has the image's size, the measurement the mask's."""
    probability = np.random.default_rng(0).uniform(0, 1, (30, 40)).astype(np.float32)
    mask = np.zeros((31, 41), dtype=int)
    mask[5:20, 7:30] = 1
    sample = make_sample(probability, mask, ori_shape=(30, 40), img_shape=(416, 416))
    result = evaluate(build(output_dir=str(tmp_path)), [sample])
    assert Image.open(tmp_path / 'a.png').size == (40, 30)
    levels = np.asarray(Image.open(tmp_path / 'a.png').resize((41, 31), Image.Resampling.BILINEAR))
    assert result == pytest.approx(direct([(levels, mask)]), abs=1e-12)


def test_png_holds_the_measured_map(tmp_path):
    samples = random_samples(3, dataset_name='CAMO')
    result = evaluate(build(output_dir=str(tmp_path / 'maps')), samples)
    files = sorted((tmp_path / 'maps' / 'CAMO').iterdir())
    assert [file.name for file in files] == ['0.png', '1.png', '2.png']
    images = [Image.open(file) for file in files]
    assert {image.mode for image in images} == {'L'}
    pairs = [(np.asarray(image), pair(sample)[1]) for image, sample in zip(images, samples, strict=True)]
    for (levels, _), sample in zip(pairs, samples, strict=True):
        np.testing.assert_array_equal(levels, pair(sample)[0])
    assert result == pytest.approx({f'CAMO/{key}': value for key, value in direct(pairs).items()}, abs=1e-12)


def test_fractions_are_cut_off(tmp_path):
    probability = np.array([[0, 0.5, 0.999, 1.0]], dtype=np.float32)
    build(output_dir=str(tmp_path), format_only=True).process(None, [make_sample(probability)])
    assert np.asarray(Image.open(tmp_path / 'a.png')).tolist() == [[0, 127, 254, 255]]


def test_format_only(tmp_path):
    metric = build(output_dir=str(tmp_path), format_only=True)
    assert evaluate(metric, [make_sample(np.zeros((4, 5), np.float32), ori_shape=(8, 9))]) == {}
    assert Image.open(tmp_path / 'a.png').size == (9, 8)
    with pytest.raises(ValueError, match='say where with output_dir'):
        build(format_only=True)


def test_two_channels_are_two_classes():
    scores = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    expected = direct([((scores.softmax(0)[1].numpy() * 255).astype(np.uint8), quarter())])
    assert evaluate(build(), [make_sample(scores, quarter())]) == pytest.approx(expected, abs=1e-12)


def test_half_precision_maps():
    probability = torch.rand(6, 8, generator=torch.Generator().manual_seed(0)).half()
    result = evaluate(build(), [make_sample(probability, quarter())])
    levels = (probability.float().numpy() * 255).astype(np.uint8)
    assert result == pytest.approx(direct([(levels, quarter())]), abs=1e-12)


def test_several_sets_are_reported_each():
    first = random_samples(2, seed=1, dataset_name='CAMO')
    second = random_samples(3, seed=2, dataset_name='NC4K')
    result = evaluate(build(prefix='cod'), [first[0], second[0], first[1], *second[1:]])
    assert list(result) == [f'cod/{name}/{key}' for name in ('CAMO', 'NC4K') for key in KEYS]
    for name, samples in (('CAMO', first), ('NC4K', second)):
        expected = direct([pair(sample) for sample in samples])
        assert {key: result[f'cod/{name}/{key}'] for key in KEYS} == pytest.approx(expected, abs=1e-12)


def test_unnamed_sets_are_not_merged_in_silence(tmp_path):
    samples = [sample for folder in 'ab' for sample in random_samples(2)]
    for sample, folder in zip(samples, 'aabb', strict=True):
        sample['img_path'] = f'{folder}/{sample["img_path"]}'
    with pytest.warns(UserWarning, match=r"\['a/x', 'b/x'\] are reported as one test set.*dataset_name") as record:
        result = evaluate(build(), samples)
    assert len([warning for warning in record if 'one test set' in str(warning.message)]) == 1
    assert list(result) == KEYS
    with pytest.raises(ValueError, match=r'a/x/0.jpg and b/x/0.jpg would both be written to .*0.png; give each data'):
        build(output_dir=str(tmp_path), format_only=True).process(None, samples)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        evaluate(build(), samples[:2])


def test_merged_parts_equal_the_whole():
    samples = random_samples(3, seed=1, dataset_name='CAMO') + random_samples(4, seed=2, dataset_name='NC4K')
    whole = evaluate(build(), samples)
    parts = [build(), build()]
    for rank, part in enumerate(parts):
        part.process(None, samples[rank::2])
    merged = build().compute_metrics(parts[1].results + parts[0].results)
    assert merged == pytest.approx(whole, abs=1e-12)
    assert len(parts[0].results) == 4


WORKER = """
import json, sys
import torch.distributed as dist
sys.path[:0] = [{root!r}, {tests!r}]
from test_saliency_metric import build, random_samples
rank = int(sys.argv[1])
dist.init_process_group('gloo', init_method='file://{store}', rank=rank, world_size=2)
samples = random_samples(3, seed=1, dataset_name='CAMO') + random_samples(2, seed=2, dataset_name='NC4K')
metric = build(collect_dir={collect!r})
for i in ([0, 2, 4], [1, 3, 0])[rank]:  # the sampler fills up with the first sample
    metric.process(None, [samples[i]])
print(json.dumps(metric.evaluate(5)))
dist.barrier()  # gloo aborts a process that exits while the other still talks to it
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    whole = evaluate(
        build(), random_samples(3, seed=1, dataset_name='CAMO') + random_samples(2, seed=2, dataset_name='NC4K')
    )
    script = WORKER.format(
        root=str(ROOT),
        tests=str(ROOT / 'tests/evaluation/metrics'),
        store=tmp_path / 'store',
        collect=str(tmp_path / 'collect'),
    )
    command = [sys.executable, '-c', script]
    workers = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    for output in outputs:  # the result is broadcast
        assert json.loads(output.splitlines()[-1]) == whole


def test_bad_maps_raise():
    logits = torch.full((6, 8), 1.5)
    with pytest.raises(ValueError, match=r'must be the sigmoid map in \[0, 1\], .* from 1.5 to 1.5 for images/a.jpg'):
        build().process(None, [make_sample(logits, quarter())])
    nan = torch.zeros(6, 8)
    nan[0, 0] = float('nan')
    with pytest.raises(ValueError, match='must be the sigmoid map'):
        build().process(None, [make_sample(nan, quarter())])
    with pytest.raises(ValueError, match=r'must be \(1, H, W\) or \(2, H, W\), got \(3, 6, 8\)'):
        build().process(None, [make_sample(torch.zeros(3, 6, 8), quarter())])


def test_bad_masks_raise():
    probability = np.zeros((6, 8), np.float32)
    with pytest.raises(ValueError, match=r'images/a.jpg has no mask .*LoadBinaryMask.*format_only=True'):
        build().process(None, [make_sample(probability)])
    with pytest.raises(ValueError, match=r'must hold 0 and 1, got \[0, 255\]; load it with mmplugins.LoadBinaryMask'):
        build().process(None, [make_sample(probability, quarter() * 255)])
    with pytest.raises(ValueError, match=r'size of the network input, \(6, 8\), .* \(60, 80\); .* after Resize'):
        build().process(None, [make_sample(probability, quarter(), ori_shape=(60, 80), img_shape=(6, 8))])


def test_empty_test_set_raises():
    with pytest.raises(ValueError, match='no image was measured: the test set is empty; check data_root'):
        build().evaluate(0)


def test_missing_pysodmetrics_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, 'py_sod_metrics', None)
    with pytest.raises(ImportError, match=r'SaliencyMetric needs pysodmetrics .*run `pip install pysodmetrics=='):
        build()
    build(output_dir='maps', format_only=True)
    assert '1.6.2' in saliency_metric.INSTALL


def test_no_warning_about_the_prefix(caplog):
    with caplog.at_level('WARNING'):
        build()
    assert not caplog.records


def tiny_model():
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[100.0] * 3, std=[60.0] * 3, bgr_to_rgb=True),
        backbone=dict(
            type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, norm_cfg=dict(type='BN'), num_stages=4
        ),
        decode_head=dict(
            type='FCNHead',
            in_channels=64,
            in_index=3,
            channels=8,
            num_convs=1,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
        ),
        test_cfg=dict(mode='whole'),
    )


def test_mmsegs_encoder_decoder_in_a_test_loop(tmp_path):
    """Two test sets through mmengine's Runner: the sigmoid is taken once, the maps have their images' sizes."""
    source = data_root('sod') / 'test'
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/cod_416x416.py')
    names = sorted(path.stem for path in (source / 'Imgs').iterdir())[:3]
    for name, members in (('CHAMELEON', names[:1]), ('CAMO', names[1:])):
        for folder, suffix in (('Imgs', 'jpg'), ('GT', 'png')):
            target = tmp_path / 'TestDataset' / name / folder
            target.mkdir(parents=True)
            for member in members:
                (target / f'{member}.{suffix}').symlink_to(source / folder / f'{member}.{suffix}')
    loader = config.test_dataloader
    loader.dataset.datasets = loader.dataset.datasets[:2]
    for dataset in loader.dataset.datasets:
        dataset.data_root = str(tmp_path)
        dataset.pipeline[1].scale = (64, 64)
    loader.update(num_workers=0, persistent_workers=False)
    runner = Runner(
        model=ConfigDict(tiny_model()),
        work_dir=str(tmp_path / 'work'),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=dict(config.test_evaluator, output_dir=str(tmp_path / 'maps')),
        default_scope='mmseg',
        experiment_name='saliency_metric',
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    head = runner.model.decode_head
    torch.nn.init.constant_(head.conv_seg.bias, -2.0)
    torch.nn.init.normal_(head.conv_seg.weight, std=10.0)
    result = runner.test()

    assert list(result) == [f'{name}/{key}' for name in ('CHAMELEON', 'CAMO') for key in KEYS]
    pairs = []
    for member in names[1:]:
        mask = np.asarray(Image.open(source / 'GT' / f'{member}.png')) > 127
        levels = np.asarray(Image.open(tmp_path / 'maps' / 'CAMO' / f'{member}.png'))
        assert levels.shape == mask.shape
        pairs.append((levels, mask))
    assert {key: result[f'CAMO/{key}'] for key in KEYS} == pytest.approx(direct(pairs), abs=1e-12)

    batch = runner.test_dataloader.dataset[1]
    with torch.no_grad():
        data = runner.model.data_preprocessor(dict(inputs=[batch['inputs']], data_samples=[batch['data_samples']]))
        logits = head.predict(runner.model.extract_feat(data['inputs']), [batch['data_samples'].metainfo], {})
        logits = torch.nn.functional.interpolate(logits, pairs[0][0].shape, mode='bilinear', align_corners=False)
    np.testing.assert_array_equal(pairs[0][0], logits[0, 0].sigmoid().mul(255).byte().numpy())
    assert 0 < pairs[0][0].min() < pairs[0][0].max() < 127  # a second sigmoid would leave nothing below one half


def test_evaluator_takes_mmsegs_data_samples():
    sample = SegDataSample(metainfo=dict(img_path='a.jpg', ori_shape=(6, 8), img_shape=(3, 4), dataset_name='mine'))
    sample.seg_logits = PixelData(data=torch.as_tensor(quarter(), dtype=torch.float32)[None])
    sample.gt_sem_seg = PixelData(data=torch.as_tensor(quarter())[None])
    evaluator = Evaluator(dict(type='mmplugins.SaliencyMetric'))
    evaluator.process([sample])
    assert evaluator.evaluate(1)['mine/Sm'] == pytest.approx(1)
