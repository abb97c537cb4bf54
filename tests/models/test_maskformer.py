"""MaskFormer as our config builds it, against a plain reading of the released network by its released names."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from mmplugins.hosts import problem_with
from mmplugins.testing import fill_state_dict
from tests.locations import ROOT, golden_files
from tests.tools.mask_converter_contract import build_model
from tools.model_converters.maskformer import convert

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

DIMS, LAYERS = 256, 6


class ReleasedMaskFormer:
    """TransformerEncoderPixelDecoder and TransformerPredictor of the released code, on tensors by name."""

    def __init__(self, state):
        self.state = state

    def linear(self, name, x):
        return F.linear(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def conv(self, name, x, norm=True, relu=True):
        weight = self.state[f'{name}.weight']
        x = F.conv2d(x, weight, self.state.get(f'{name}.bias'), padding=weight.shape[-1] // 2)
        if norm:
            x = F.group_norm(x, 32, self.state[f'{name}.norm.weight'], self.state[f'{name}.norm.bias'])
        return x.relu() if relu else x

    def norm(self, name, x):
        return F.layer_norm(x, (DIMS,), self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def attend(self, name, query, key, value):
        """Tensors (length, batch, channels)."""
        tensors = [self.state[f'{name}.{part}'] for part in ('in_proj_weight', 'in_proj_bias')]
        out = [self.state[f'{name}.out_proj.{part}'] for part in ('weight', 'bias')]
        settings = dict(bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0, training=False)
        return F.multi_head_attention_forward(
            query, key, value, DIMS, 8, *tensors, out_proj_weight=out[0], out_proj_bias=out[1], **settings
        )[0]

    def feed_forward(self, name, x):
        return self.linear(f'{name}.linear2', self.linear(f'{name}.linear1', x).relu())

    def encode(self, x, position):
        for i in range(LAYERS):
            name = f'sem_seg_head.pixel_decoder.transformer.encoder.layers.{i}'
            x = self.norm(f'{name}.norm1', x + self.attend(f'{name}.self_attn', x + position, x + position, x))
            x = self.norm(f'{name}.norm2', x + self.feed_forward(name, x))
        return x

    def decode(self, memory, position):
        queries = self.state['sem_seg_head.predictor.query_embed.weight'][:, None].expand(-1, memory.shape[1], -1)
        x, hidden, decoder = torch.zeros_like(queries), [], 'sem_seg_head.predictor.transformer.decoder'
        for i in range(LAYERS):
            name = f'{decoder}.layers.{i}'
            x = self.norm(f'{name}.norm1', x + self.attend(f'{name}.self_attn', x + queries, x + queries, x))
            found = self.attend(f'{name}.multihead_attn', x + queries, memory + position, memory)
            x = self.norm(f'{name}.norm2', x + found)
            x = self.norm(f'{name}.norm3', x + self.feed_forward(name, x))
            hidden.append(self.norm(f'{decoder}.norm', x))
        return torch.stack(hidden).transpose(1, 2)  # (layers, batch, queries, channels)

    def __call__(self, features):
        decoder, predictor = 'sem_seg_head.pixel_decoder', 'sem_seg_head.predictor'
        height, width = features[3].shape[-2:]
        position = sine(height, width).flatten(1).T[:, None]
        x = self.conv(f'{decoder}.input_proj', features[3], norm=False, relu=False)
        memory = self.encode(x.flatten(2).permute(2, 0, 1), position)
        x = self.conv(f'{decoder}.layer_4', memory.permute(1, 2, 0).unflatten(2, (height, width)))
        for i in (3, 2, 1):
            lateral = self.conv(f'{decoder}.adapter_{i}', features[i - 1], relu=False)
            x = self.conv(f'{decoder}.layer_{i}', lateral + F.interpolate(x, lateral.shape[-2:], mode='nearest'))
        mask_features = self.conv(f'{decoder}.mask_features', x, norm=False, relu=False)
        hidden = embedding = self.decode(memory, position)
        for i in range(3):
            embedding = self.linear(f'{predictor}.mask_embed.layers.{i}', embedding)
            embedding = embedding.relu() if i < 2 else embedding
        masks = torch.einsum('lbqc,bchw->lbqhw', embedding, mask_features)
        return self.linear(f'{predictor}.class_embed', hidden), masks


def sine(height, width):
    """The positional encoding of DETR without padding, (DIMS, height, width)."""
    half = DIMS // 2
    wave = 10000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode='floor') / half)
    axes = []
    for length, shape in ((height, (1, height, 1)), (width, (1, 1, width))):
        place = 2 * math.pi * torch.arange(1, length + 1) / (length + 1e-6)
        angle = place[None] / wave[:, None]
        angle[0::2], angle[1::2] = angle[0::2].sin(), angle[1::2].cos()
        axes.append(angle.view(half, *shape[1:]).expand(half, height, width))
    return torch.cat(axes)


@pytest.mark.slow
@torch.no_grad()
def test_as_the_released_network_reads():
    path = golden_files('maskformer_r50_coco_panoptic_state_shapes.json')[0].values[0]
    released = fill_state_dict(json.loads(path.read_text()))
    model = build_model('maskformer_r50.py', 'mmdet', 133, num_stuff=53)
    model.load_state_dict(convert(released), strict=True)
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 256 * 2**i, 64 >> i, 96 >> i) for i in range(4)]
    features = [torch.randn(shape, generator=generator) for shape in shapes]
    sample = DetDataSample(metainfo=dict(img_shape=(256, 384), batch_input_shape=(256, 384)))
    logits, masks = model.panoptic_head.eval()(features, [sample] * 2)
    expected_logits, expected_masks = ReleasedMaskFormer(released)(features)
    assert logits.shape == (LAYERS, 2, 100, 134)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masks, expected_masks, rtol=1e-4, atol=1e-3)


def small_segmentor(size):
    """The config for ADE20K on a ResNet-18, for crops of a size."""
    config = Config.fromfile(ROOT / 'configs/maskformer/maskformer_r50_8xb2-160k_ade20k-512x512.py').model
    config.backbone.update(depth=18, init_cfg=None)
    config.decode_head.in_channels = [64, 128, 256, 512]
    config.data_preprocessor.size = size
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def crop(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    one = SegDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width)))
    one.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, height, width), generator=generator))
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8), one


@torch.no_grad()
def test_a_crop_does_not_depend_on_its_place_in_the_batch():
    """Smaller crops are padded; the padding counts as image, as in the released code, wherever the crop stands."""
    model = small_segmentor((96, 128))
    outputs = []
    model.decode_head.register_forward_hook(lambda module, args, output: outputs.append(output))
    for sizes in ([(64, 85), (96, 128)], [(96, 128), (64, 85)], [(64, 85), (64, 85)]):
        batch = [crop(*size, seed=sum(size)) for size in sizes]
        data = model.data_preprocessor(
            dict(inputs=[image for image, _ in batch], data_samples=[sample for _, sample in batch]), training=True
        )
        model(**data, mode='loss')
    for first, second, both in zip(*outputs, strict=True):  # logits, then masks: (layers, images, ...)
        torch.testing.assert_close(first[:, 0], second[:, 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first[:, 0], both[:, 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both[:, 0], both[:, 1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_images_are_padded_to_multiples_of_32_in_tests():
    """The prediction is that of the padded image, without the padding."""
    model = small_segmentor((96, 128))
    image, sample = crop(70, 100, seed=0)
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    normalised = model.data_preprocessor(dict(inputs=[image], data_samples=[crop(70, 100, 0)[1]]))['inputs']
    assert normalised.shape == (1, 3, 96, 128)
    assert (normalised[..., 70:, :] == 0).all()
    assert (normalised[..., 100:] == 0).all()
    meta = dict(img_shape=(96, 128), batch_input_shape=(96, 128))
    logits, masks = model.decode_head(model.extract_feat(normalised), [SegDataSample(metainfo=meta)])
    masks = F.interpolate(masks[-1], (96, 128), mode='bilinear', align_corners=False).sigmoid()
    expected = torch.einsum('bqc,bqhw->bchw', logits[-1].softmax(-1)[..., :-1], masks)[0, :, :70, :100]
    best = expected.topk(2, dim=0).values
    sure = best[0] - best[1] > 1e-5
    assert sure.float().mean() > 0.99
    assert torch.equal(found.pred_sem_seg.data[0][sure], expected.argmax(0)[sure])
