"""Whether data sets, heads, fusion head, transforms and class weights agree about the classes."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmplugins.engine.launch import type_name

from .names import find
from .report import Report, cause, leaves, listed, walk

SPLITS = ('train', 'val', 'test')
THINGS, STUFF = 'num_things_classes', 'num_stuff_classes'
# What mmdet's heads take where the config says nothing.
DEFAULTS = {THINGS: 80, STUFF: 53}
# Heads of models that are asked with texts: they count words, and are tested on other classes than trained on.
OF_TEXTS = ('GroundingDINOHead', 'ATSSVLFusionHead', 'SideAdapterCLIPHead')
# And heads that count boundaries, stuff, or nothing.
OTHER_COUNTS = (*OF_TEXTS, 'STDCHead', 'FusedSemanticHead', 'SCNetSemanticHead', 'EmbeddingRPNHead')


def check_classes(report: Report, cfg: Config) -> dict | None:
    """Compares the numbers of classes of a config.

    Args:
        report: Takes the findings, check ``classes``.
        cfg: The config; its default scope is set.

    Returns:
        The meta information of the training's data set, else of the first that can be built; None without any.
    """
    metas = {}
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, Mapping) and isinstance(loader.get('dataset'), Mapping):
            key = f'{split}_dataloader.dataset'
            for place, leaf in leaves(loader['dataset'], key):
                meta = _meta(report, place, leaf)
                if meta is not None:
                    metas[place] = meta
    if not metas:
        return None
    first, meta = next(iter(metas.items()))
    names = meta['classes']
    of_texts = any(type_name(node) in OF_TEXTS for _, node in walk(cfg.get('model'), 'model'))
    for place, other in metas.items() if first.startswith('train') and not of_texts else ():
        if list(other['classes']) != list(names):
            report.error(
                'classes',
                f'{place} has {_counted(other["classes"])}, {first} has {_counted(names)}',
                'give all data sets the same metainfo, in the same order',
            )
    numbers = _heads(report, cfg, meta, first)
    if not report.failed('classes'):
        found = f', as {listed(numbers)} say{"s" * (len(numbers) == 1)}' if numbers else ''
        report.ok('classes', f'{len(names)} in the data set{found}')
    return meta


def _counted(names: Sequence[str]) -> str:
    return f'{len(names)} classes ({listed(names)})'


def _meta(report: Report, key: str, config: Mapping) -> dict | None:
    given = config.get('metainfo')
    given = given if isinstance(given, Mapping) else {}
    if isinstance(given.get('classes'), str):
        report.error(
            'classes',
            f'{key}.metainfo.classes is the text {given["classes"]!r}, whose letters would be the classes',
            f'write a tuple: classes=({given["classes"]!r},), with the comma',
        )
        return None
    if 'CLASSES' in given and 'classes' not in given:
        report.error(
            'classes',
            f'{key}.metainfo has CLASSES, which is not read, so that the data set keeps classes of its own',
            "write it small: metainfo=dict(classes=('...',), palette=[...])",
        )
        return None
    try:
        meta = DATASETS.build({**config, 'lazy_init': True}).metainfo
    except Exception as error:  # of any data set, for any reason: that is the finding
        declared = {**getattr(find(config['type'])[0], 'METAINFO', {}), **given}
        # several data sets of mmseg look for their files when they are built; reading them is for another check
        if isinstance(error, FileNotFoundError) or not str(error):
            if declared.get('classes'):
                return declared
            report.warning(
                'classes', f'{key} tells its classes only where its files are', 'check it where the data lie'
            )
            return None
        report.error('classes', f'{key} cannot be built: {cause(error)}', 'mend the arguments of the data set')
        return None
    if not meta.get('classes'):
        report.warning('classes', f'{key} does not tell its classes', "give it metainfo=dict(classes=('...',))")
        return None
    names, palette = meta['classes'], meta.get('palette')
    if palette and not isinstance(palette, str) and len(palette) < len(names):
        report.warning(
            'classes', f'{key}: {len(names)} classes and a palette of {len(palette)}', 'give each class a colour'
        )
    things, stuff = meta.get('thing_classes'), meta.get('stuff_classes')
    if things is not None and stuff is not None:
        _check_split(report, key, list(names), list(things), list(stuff))
    return meta


def _check_split(report: Report, key: str, names: list, things: list, stuff: list) -> None:
    if {*things, *stuff} != {*names}:
        report.error(
            'classes',
            f'{key}: metainfo has {len(names)} classes, but {len(things)} thing_classes and {len(stuff)} stuff_classes '
            'of other names',
            "give all three in metainfo; what is left out stays the data set's own",
        )
    elif things and names[: len(things)] != things:
        report.error(
            'classes',
            f'{key}: classes do not begin with thing_classes ({listed(names, 3)}; things are {listed(things, 3)}); '
            'heads take the first labels for things',
            'list the things first: classes = thing_classes + stuff_classes, and order the palette alike',
        )


def _heads(report: Report, cfg: Config, meta: Mapping, data: str) -> list[str]:
    """Compares what the model and the pipelines say; returns the keys that agree."""
    count, agree = len(meta['classes']), []
    nodes = [pair for pair in walk(cfg.get('model'), 'model') if _is_head(pair[0])]
    others = [key for key, node in nodes if type_name(node) in OTHER_COUNTS]
    nodes = [(key, node) for key, node in nodes if not any(f'{key}.'.startswith(f'{other}.') for other in others)]
    for key, node in nodes:
        if THINGS in node or STUFF in node:
            _check_things(report, key, node, meta, data, agree)
        elif 'num_classes' in node:
            expected, what = count, 'classes'
            panoptic = any(THINGS in other for _, other in nodes) and '.roi_head.' in f'{key}.'
            if panoptic and meta.get('thing_classes'):
                expected, what = len(meta['thing_classes']), 'things'
            if node['num_classes'] == expected:
                agree.append(f'{key}.num_classes')
            else:
                report.error(
                    'classes',
                    f'{key}.num_classes is {node["num_classes"]}, {data} has {expected} {what} '
                    f'({listed(meta["thing_classes"] if what == "things" else meta["classes"])})',
                    f'set {key}.num_classes={expected}, or give the data sets metainfo=dict(classes=...)',
                )
    _check_same_things(report, nodes)
    _check_weights(report, nodes)
    things = len(meta['thing_classes']) if meta.get('thing_classes') else None
    for place, step in walk(cfg.get('train_dataloader'), 'train_dataloader'):
        if things is not None and step.get(THINGS, things) != things:
            report.error(
                'classes',
                f'{place}.{THINGS} is {step[THINGS]}, {data} has {things} things',
                f'set {place}.{THINGS}={things}',
            )
    return agree


def _is_head(key: str) -> bool:
    parts = [part for part in key.split('.') if not part.isdigit()]
    return any(part.endswith(('head', 'heads')) for part in parts) and not any('rpn' in part for part in parts)


def _things(node: Mapping) -> tuple[int, int]:
    return node.get(THINGS, DEFAULTS[THINGS]), node.get(STUFF, DEFAULTS[STUFF])


def _check_things(report: Report, key: str, node: Mapping, meta: Mapping, data: str, agree: list[str]) -> None:
    things, stuff = _things(node)
    count, known = len(meta['classes']), meta.get('thing_classes')
    expected = (len(known), count - len(known)) if known else None
    if (things, stuff) == expected or (expected is None and things + stuff == count):
        agree.append(f'{key}.{THINGS} + {STUFF}')
        return
    # without a list of things: instances alone, all of them things
    wanted = expected or (count, 0)
    report.error(
        'classes',
        f'{key} has {things} things and {stuff} stuff, {data} has {count} classes'
        + (f', {expected[0]} of them things' if expected else ''),
        f'set {key}.{THINGS}={wanted[0]} and {key}.{STUFF}={wanted[1]} (where a config is silent they are 80 and 53)',
    )


def _check_same_things(report: Report, nodes: list[tuple[str, Mapping]]) -> None:
    said = {key: _things(node) for key, node in nodes if THINGS in node or STUFF in node}
    if len(set(said.values())) > 1:
        text = ', '.join(f'{key} {things} things and {stuff} stuff' for key, (things, stuff) in said.items())
        report.error(
            'classes', f'heads disagree: {text}', 'give panoptic_head and panoptic_fusion_head the same numbers'
        )


def _check_weights(report: Report, nodes: list[tuple[str, Mapping]]) -> None:
    """Compares the lengths of class weights with the classes of the head that each loss stands in."""
    heads = {key: node for key, node in nodes if {'num_classes', THINGS, STUFF} & set(node)}
    for key, node in nodes:
        weight = node.get('class_weight')
        around = [place for place in heads if key.startswith(f'{place}.')]
        if not isinstance(weight, list | tuple) or not around:
            continue
        head = heads[max(around, key=len)]
        count = head['num_classes'] if 'num_classes' in head else sum(_things(head))
        loss = key[len(max(around, key=len)) + 1 :]
        if loss.startswith('loss_decode'):
            count, rule = head.get('out_channels') or count, 'one a class'
        elif loss.startswith('loss_cls') and not node.get('use_sigmoid', False):
            count, rule = count + 1, 'one a class and one for no object'
        elif loss.startswith('loss_seg'):
            count, rule = _things(head)[1] + 1, 'one a stuff class and one for things'
        else:
            rule = 'one a class'
        if len(weight) != count:
            report.error(
                'classes',
                f'{key}.class_weight has {len(weight)} numbers, {count} are needed ({rule})',
                f'give {count} numbers; where they inherit from another config, set class_weight anew',
            )
