"""What the converters of MaskFormer and Mask2Former share: detectron2's names of a ResNet, and its pickled files.

Released code: detectron2's modeling/backbone/resnet.py and checkpoint/detection_checkpoint.py, and the version
upgrades in mask_former_head.py and mask2former_transformer_decoder.py. A convolution of the ResNet holds its batch
norm as ``conv1.norm``, a block's projection is its ``shortcut``, and the frozen batch norms count no batches.

Deliberate difference: a pickle may name only what a file of arrays needs, so that reading it cannot run code.
"""

import pickle
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .convert import (
    FROZEN_NORM,
    WEIGHT,
    ConversionError,
    KeyPairs,
    batch_counters,
    key_table,
    read_tensors,
    rename_tensors,
    rule,
    run_converter,
)

HEADS = ('panoptic_head', 'decode_head')  # in mmdetection's detectors, in mmsegmentation's EncoderDecoder
NO_OBJECT_WEIGHT = 0.1  # of every released model
RESNET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # of each ResNet, by stage
NUMPY_CORE = 'numpy.core' if np.__version__.startswith('1.') else 'numpy._core'
NEEDED = {  # to build arrays; numpy 2 has renamed its core
    (f'{core}.{module}', name)
    for core in ('numpy.core', 'numpy._core')
    for module, name in (('multiarray', '_reconstruct'), ('multiarray', 'scalar'), ('numeric', '_frombuffer'))
} | {('numpy', 'ndarray'), ('numpy', 'dtype'), ('_codecs', 'encode'), ('collections', 'OrderedDict')}


def resnet_rules(depth: int) -> list[KeyPairs]:
    """Gives the rules of a ResNet's tensors.

    Args:
        depth: Of the ResNet, 50 or 101.

    Returns:
        What ``key_table`` joins.
    """
    rules = [
        rule('backbone.stem.conv1', 'backbone.conv1', WEIGHT),
        rule('backbone.stem.conv1.norm', 'backbone.bn1', FROZEN_NORM),
    ]
    for stage, blocks in enumerate(RESNET_BLOCKS[depth], start=1):
        theirs, ours = f'backbone.res{stage + 1}', f'backbone.layer{stage}'
        values = {'b': range(blocks), 'i': (1, 2, 3)}
        rules += [
            rule(f'{theirs}.{{b}}.conv{{i}}', f'{ours}.{{b}}.conv{{i}}', WEIGHT, **values),
            rule(f'{theirs}.{{b}}.conv{{i}}.norm', f'{ours}.{{b}}.bn{{i}}', FROZEN_NORM, **values),
            rule(f'{theirs}.0.shortcut', f'{ours}.0.downsample.0', WEIGHT),
            rule(f'{theirs}.0.shortcut.norm', f'{ours}.0.downsample.1', FROZEN_NORM),
        ]
    return rules


class MaskConverter:
    """Converts the checkpoints of a mask classifier: a ResNet and a head with queries.

    Args:
        head_rules: Gives the rules of everything after the backbone; takes the name of our head.
        others: Likewise, of networks that differ, by a part of names that only theirs have, released and ours.
    """

    def __init__(
        self,
        head_rules: Callable[[str], Sequence[KeyPairs]],
        others: Mapping[str, Callable[[str], Sequence[KeyPairs]]] | None = None,
    ) -> None:
        self.others = tuple(others or ())
        self.tables = {
            (depth, head, mark): key_table(*resnet_rules(depth), *rules(head))
            for depth in RESNET_BLOCKS
            for head in HEADS
            for mark, rules in {'': head_rules, **(others or {})}.items()
        }

    def table(self, names: Mapping[str, object], semantic: bool = False) -> dict[str, str]:
        """Gives our name of each released name.

        Args:
            names: Of the tensors to convert, released or ours; they tell the ResNet's depth and the kind of head.
            semantic: Ours is mmsegmentation's EncoderDecoder.

        Returns:
            The table.
        """
        deep = any(name.startswith(('backbone.res4.22.', 'backbone.layer3.22.')) for name in names)
        mark = next((mark for mark in self.others if any(mark in name for name in names)), '')
        return self.tables[101 if deep else 50, HEADS[semantic], mark]

    def __call__(self, state: Mapping[str, Tensor], reverse: bool = False, semantic: bool = False) -> dict[str, Tensor]:
        """Converts a state dict.

        Args:
            state: Tensors by their released names, or, in reverse, by ours.
            reverse: From ours to the released ones.
            semantic: Ours is mmsegmentation's EncoderDecoder instead of mmdetection's detector; in reverse the names
                tell.

        Returns:
            The tensors by their new names.

        Raises:
            ConversionError: Tensors are unknown or missing.
        """
        if reverse:
            semantic = any(name.startswith(f'{HEADS[True]}.') for name in state)
        else:
            state = modern_names(state)
        table = self.table(state, semantic)
        weights = {'criterion.empty_weight': _class_weights(state, table['sem_seg_head.predictor.class_embed.bias'])}
        return rename_tensors(state, table, reverse, batch_counters(table), extras=weights)

    def run(self, description: str) -> None:
        """Runs a converter's command line."""

        def convert_arguments(state: Mapping[str, Tensor], args: Namespace) -> dict[str, Tensor]:
            return self(state, args.reverse, args.semantic)

        flags = {'--semantic': "ours is mmsegmentation's EncoderDecoder instead of mmdetection's detector"}
        run_converter(convert_arguments, description, flags=flags, released_key='model', read=read_released)


def _class_weights(state: Mapping[str, Tensor], classifier_bias: str) -> Tensor:
    """Class weights of the loss as released, for as many classes as our classifier has; no class if it is missing."""
    weights = torch.ones(len(state.get(classifier_bias, [0.0])))
    weights[-1] = NO_OBJECT_WEIGHT
    return weights


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the tensors of a MaskFormer or Mask2Former that was saved early their present names.

    The released code renames them when it loads a file: the pixel decoder once lay in ``sem_seg_head`` itself, and the
    queries' features were called static.

    Args:
        state: Tensors by released names.

    Returns:
        The tensors by the names that the released model has now.
    """
    head, decoder = 'sem_seg_head.', 'sem_seg_head.pixel_decoder.'
    names = {name: name.replace('.predictor.static_query.', '.predictor.query_feat.') for name in state}
    if not any(name.startswith(decoder) for name in state):
        for name in state:
            if name.startswith(head) and not name.startswith(f'{head}predictor.'):
                names[name] = decoder + name.removeprefix(head)
    return {names[name]: tensor for name, tensor in state.items()}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in NEEDED:
            raise ConversionError(
                f'the file asks for {module}.{name}, which no checkpoint of arrays needs; it is not read, as it could '
                'run any code'
            )
        return super().find_class(re.sub(r'^numpy\._?core', NUMPY_CORE, module), name)


def read_released(path: str | Path) -> dict[str, Tensor]:
    """Reads a checkpoint: one of torch's, or a model zoo's pickle (.pkl) of numpy arrays under ``model``.

    Args:
        path: The file.

    Returns:
        Tensors by name.

    Raises:
        ConversionError: A pickle holds something else.
        FileNotFoundError: There is no such file.
    """
    if not str(path).endswith('.pkl'):
        return read_tensors(path)
    with Path(path).open('rb') as file:
        try:
            checkpoint = _ArraysOnly(file, encoding='latin1').load()
        except (pickle.UnpicklingError, EOFError, UnicodeDecodeError) as error:
            raise ConversionError(f'it is no pickle: {error}') from error
    state = checkpoint.get('model', checkpoint) if isinstance(checkpoint, dict) else None
    if not state or not all(isinstance(value, np.ndarray | np.generic) for value in state.values()):
        raise ConversionError("expected a pickled dict of numpy arrays by name, as it is or under the key 'model'")
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
