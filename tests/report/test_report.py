"""``python -m mmplugins.report``: what is read, what the page holds, and how a browser shows it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmplugins.report import __main__ as report
from mmplugins.report.charts import Series, chart, smooth
from mmplugins.report.page import config_changes, page
from mmplugins.report.panels import panels
from mmplugins.report.pictures import chosen, data_uri
from mmplugins.report.work_dir import read_run

HOSTILE = '<script>alert("x&y")</script>'
LOG = """2026/01/02 10:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    Python: 3.11.7 (main)
    PyTorch: 2.13.0+cpu
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3
    OpenCV: 4.12.0

Runtime environment:
    seed: 0
    note: {hostile}
------------------------------------------------------------
2026/01/02 10:00:01 - mmengine - INFO - Exp name: my_net_20260102_100000
2026/01/02 11:30:00 - mmengine - INFO - Iter(train) [20/20]
"""


def write_run(folder: Path, *starts: list[dict], log: str = LOG, record: dict | None = None) -> Path:
    """Writes a work dir with the scalars of each start."""
    for number, lines in enumerate(starts):
        place = folder / f'2026010{number}_000000'
        (place / 'vis_data' / 'vis_image').mkdir(parents=True)
        (place / 'vis_data' / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')
        (place / 'vis_data' / 'config.py').write_text(f'model = {HOSTILE!r}\n')
        (place / f'{number}.log').write_text(log.replace('{hostile}', HOSTILE))
        if record is not None:
            (place / 'run.json').write_text(json.dumps(record))
    return folder


def train(step, **values):
    return dict(lr=0.1, time=0.2, data_time=0.01, iter=step, step=step, **values)


def titles(run):
    return {heading: [title for title, svg in found if svg] for heading, found in panels(run)}


# reading


def test_a_resumed_run(tmp_path):
    """The later value of a step counts; lines without an iteration are validations, whose times are not a step's."""
    first = [train(10, loss=3.0), train(20, loss=2.0), dict(mIoU=30.0, time=9.0, step=20)]
    second = [train(20, loss=1.5), {'mIoU': 40.0, 'val/loss': 1.7, 'step': 20}, dict(match_stability=0.5, step=20)]
    run = read_run(write_run(tmp_path / 'run', first, second))
    assert run.training['loss'] == [(10, 3.0), (20, 1.5)]
    assert run.training['time'] == [(10, 0.2), (20, 0.2)]
    assert run.validation == {'mIoU': [(20, 40.0)], 'val/loss': [(20, 1.7)], 'match_stability': [(20, 0.5)]}
    assert (run.name, run.last, run.starts, run.by_epoch) == ('my_net', 20, 2, False)
    assert [f'{time:%d %H:%M}' for time in run.times] == ['02 10:00', '02 11:30']
    names = [name for name, _ in run.environment]
    assert names == ['Python', 'PyTorch', 'OpenCV', 'seed', 'note']
    assert dict(run.environment)['Python'] == '3.11.7 (main)'


def test_validations_of_epochs_are_placed_at_their_last_iteration(tmp_path):
    lines = [train(20, loss=3.0, epoch=1), train(40, loss=2.5, epoch=1), {'coco/bbox_mAP': 0.1, 'step': 1}]
    lines += [train(80, loss=2.0, epoch=2), {'coco/bbox_mAP': 0.2, 'step': 2}]
    run = read_run(write_run(tmp_path / 'run', lines))
    assert run.by_epoch
    assert run.validation == {'coco/bbox_mAP': [(40, 0.1), (80, 0.2)]}


def test_errors(tmp_path):
    with pytest.raises(SystemExit, match=r'report: error: .*has no \*/vis_data/scalars.json with scalars in it; give'):
        report.main([str(tmp_path)])
    write_run(tmp_path, [dict(loss=1.0)])
    (tmp_path / '20260100_000000/vis_data/scalars.json').write_text('{"loss": 1}\n{"lo')
    with pytest.raises(SystemExit, match='line 2 is no JSON'):
        report.main([str(tmp_path)])
    with pytest.raises(SystemExit):
        report.main([str(tmp_path), '--pictures', '-1'])


# curves


def test_every_curve_has_its_panel(tmp_path):
    values = {'loss': 3.0, 'decode.loss_ohem': 2.0, 'd0.loss_cls': 1.0, 'ohem_kept': 0.5, 'class_error': 20.0}
    lines = [train(step, **values, grad_norm=1.0, base_lr=0.1, acc=9.0) for step in (10, 20)]
    lines.append({'mIoU': 50.0, 'val/loss': 2.5, 'val/decode.loss_ohem': 2.2, 'val/loss_new': 1.0, 'step': 20})
    run = read_run(write_run(tmp_path / 'run', lines))
    found = titles(run)
    assert found.pop('Losses') == ['loss, total', 'decode.loss_ohem', 'loss_new']
    assert found.pop('What the losses see') == ['pixels kept by ohem', 'class error of matched queries, %']
    assert found.pop('Metrics') == ['mIoU']
    work = ['learning rate', 'seconds a step, and of these for data', 'gradient norm']
    assert found.pop('Rates and work') == work
    assert found == {'Also logged': ['acc']}
    svg = dict(dict(panels(run))['Losses'])['loss, total']
    assert re.findall(r'>(\w+) <b>([\d.]+)</b>', svg) == [('training', '3'), ('validation', '2.5')]


def test_a_curve_by_hand():
    """The frame is 356 wide from 52 and 190 high to 200; 0 to 2 plus a margin of 6 %."""
    svg = chart([Series('a', [(0, 0.0), (50, 2.0), (100, 1.0)])])
    places = re.search(r'points="([^"]+)"', svg)[1].split()
    scale = 190 / (2 + 0.06 * 2)
    assert places == ['52.0,200.0', f'230.0,{200 - 2 * scale:.1f}', f'408.0,{200 - scale:.1f}']
    assert re.findall(r'class="right">([^<]+)<', svg) == ['0', '0.5', '1', '1.5', '2']
    assert re.findall(r'class="middle">([^<]+)<', svg) == ['0', '20', '40', '60', '80', '100']
    assert '<title>' not in svg
    marked = chart([Series('a', [(5, 0.25)], True)], percent=True)
    assert '<title>a 25% at 5</title>' in marked
    assert '<b>25%</b>' in marked


def test_values_that_are_not_finite_and_starts_far_above():
    nan = float('nan')
    assert chart([Series('a', [(1, nan)])]) == chart([]) == ''
    svg = chart([Series('a', [(1, nan), (2, 1.0), (3, float('inf'))])])
    assert 'nan' not in svg
    assert 'inf' not in svg
    steep = chart([Series('a', [(0, 1000.0), *((step, 1.0 + 0.01 * step) for step in range(1, 50))])])
    assert max(float(tick) for tick in re.findall(r'class="right">([^<]+)<', steep)) < 3
    flat = chart([Series('a', [(0, 5.0), (10, 5.0)])], from_zero=False)
    assert 'points="52.0,105.0 408.0,105.0"' in flat


def test_smooth_curves():
    assert smooth([1.0, 2.0], 0.5) == [1.0, pytest.approx((0.5 + 2) / 1.5)]
    long = chart([Series('a', [(step, step % 7) for step in range(400)])])
    assert long.count('<polyline') == 2
    assert chart([Series('a', [(step, 1.0) for step in range(10000)])]).count(',') < 3000


# page


def test_everything_is_escaped(tmp_path):
    """Names of scalars and pictures, log, config, record, and the file's own name."""
    record = dict(
        command=['train.py', HOSTILE, 'a b'],
        config=HOSTILE,
        bases=[HOSTILE],
        base={'model.a': HOSTILE},
        settings={f'model.{HOSTILE}': HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    log = LOG.replace('my_net', '<b>name</b>')
    folder = write_run(
        tmp_path / 'run', [train(1, loss=1.0, **{f'{HOSTILE}.loss': 2.0, HOSTILE: 1.0})], log=log, record=record
    )
    name = '<i>&"'
    picture = folder / '20260100_000000/vis_data/vis_image' / f'{name}_7.png'
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    text = page(read_run(folder))
    assert '<script' not in text
    assert '<i>' not in text
    assert '<b>name' not in text
    assert text.count('&lt;script&gt;alert(&quot;x&amp;y&quot;)&lt;/script&gt;') >= 10
    assert 'alt="&lt;i&gt;&amp;&quot;, iteration 7"' in text


def test_a_page_loads_nothing(tmp_path):
    text = page(read_run(write_run(tmp_path / 'run', [train(1, loss=1.0)])))
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in text
    assert re.findall(r'(?:src|href)="([^"#d][^"]*)"', text) == []
    assert 'url(' not in text
    assert '@import' not in text


def test_changes_of_a_config():
    """Helpers are not listed; the order is that of what a run reads."""
    base = {'optim_wrapper.lr': '0.1', 'model.type': "'A'", 'model.gone': '1', 'max_iters': '5', 'test_cfg.a': '1'}
    run = {'optim_wrapper.lr': '0.2', 'model.type': "'A'", 'model.new': '2', 'max_iters': '6', 'test_cfg.a': '2'}
    assert list(config_changes(base, run)) == [
        ('model.gone', '1', ''),
        ('model.new', '', '2'),
        ('optim_wrapper.lr', '0.1', '0.2'),
    ]


def test_a_run_of_another_tool_and_one_without_a_base(tmp_path):
    other = page(read_run(write_run(tmp_path / 'a', [train(1, loss=1.0)])))
    assert 'the run was not started with tools/train.py of mmplugins' in other
    assert 'id="command"' not in other
    record = dict(command=['tools/train.py', 'a b.py'], config='a b.py', bases=[], base=None, settings={}, versions={})
    own = page(read_run(write_run(tmp_path / 'b', [train(1, loss=1.0)], record=record)))
    assert '<code>a b.py</code> inherits from no other config' in own
    assert 'python tools/train.py &#x27;a b.py&#x27;' in own


def test_pictures(tmp_path):
    assert chosen(range(10), 4) == [0, 3, 6, 9]
    assert (chosen([1, 2], 6), chosen([1, 2], 1), chosen([1, 2], 0)) == ([1, 2], [2], [])
    folder = write_run(tmp_path / 'run', [train(1, loss=1.0)])
    place = folder / '20260100_000000/vis_data/vis_image'
    for step in (1, 5, 10):
        Image.fromarray(np.full((30, 2000, 3), 20 * step, np.uint8)).save(place / f'look_pixels_{step}.png')
    (place / 'look_pixels_20.png').write_bytes(b'half a picture')
    text = page(read_run(folder), most_pictures=4)
    assert re.findall(r'<figcaption>iteration (\d+)<', text) == ['10', '5', '1']
    assert 'Pixels: what is kept, and how it is weighed' in text
    uri = data_uri(place / 'look_pixels_10.png')
    assert uri in text
    assert re.match(r'data:image/(webp|png);base64,', uri)


# browser


def browser() -> str | None:
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


MEASURE = """<script>addEventListener('load', () => {
const images = [...document.images].map(image => image.naturalWidth);
const curves = [...document.querySelectorAll('polyline')].map(line => line.getBoundingClientRect());
const root = document.documentElement;
document.body.innerHTML = '<pre>' + JSON.stringify({
  images, width: innerWidth, scroll: root.scrollWidth,
  charts: document.querySelectorAll('svg').length,
  narrow: curves.filter(box => box.width < 20).length,
  outside: curves.filter(box => box.left < 0 || box.right > innerWidth).length,
  links: [...document.querySelectorAll('nav a')].every(link => document.querySelector(link.hash)),
}) + '</pre>'; });</script>"""


@pytest.mark.skipif(browser() is None, reason='needs chromium (on Debian: apt-get install chromium)')
@pytest.mark.parametrize('width', [1300, 500])
def test_in_a_browser(tmp_path, width):
    """Pictures and curves are there, links lead somewhere, and nothing is wider than the window."""
    wide = {f'a_metric_with_a_very_long_name_{"x" * 60}': 1.0, 'step': 30}
    lines = [train(step, loss=30 / step, ohem_kept=1 / step) for step in range(1, 31)]
    record = dict(
        command=['train.py', 'x' * 300],
        config='configs/' + 'y' * 120,
        bases=['base.py'],
        base={'model.' + 'z' * 120: '1'},
        settings={'custom_hooks': 'w' * 400},
        versions={'torch': '2'},
    )
    folder = write_run(tmp_path / 'run', [*lines, wide], record=record)
    for step in (1, 30):
        picture = folder / '20260100_000000/vis_data/vis_image' / f'look_pixels_{step}.png'
        Image.fromarray(np.full((400, 1200, 3), 200, np.uint8)).save(picture)
    report.main([str(folder)])
    text = (folder / 'report.html').read_text(encoding='utf-8')
    measured = tmp_path / 'measured.html'  # the same page, with a script to look at it
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)[0]
    measured.write_text(text.replace(policy, '').replace(' loading="lazy"', '').replace('</body>', f'{MEASURE}</body>'))
    options = ('headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run', 'disable-sync', 'dump-dom')
    options += ('disable-background-networking', 'disable-component-update')
    profile = [f'--user-data-dir={tmp_path / "profile"}', f'--window-size={width},900']
    done = subprocess.run(
        [browser(), *(f'--{option}' for option in options), *profile, measured.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(re.search(r'<pre>(.*?)</pre>', done.stdout)[1])
    assert found['images'] == [1200, 1200]
    assert found['charts'] == 5  # loss, kept pixels, the metric, rate, time
    assert (found['narrow'], found['outside']) == (0, 0)
    assert found['scroll'] <= found['width'] <= width
    assert found['links']
