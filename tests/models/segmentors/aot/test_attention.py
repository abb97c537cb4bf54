import torch

from mmplugins.models.segmentors.aot.attention import MultiheadAttention, ShortTermAttention


def tokens(count, channels=8, batch=2, seed=0):
    return torch.randn(batch, count, channels, generator=torch.Generator().manual_seed(seed))


def test_multihead_attention_by_formula():
    torch.manual_seed(0)
    module = MultiheadAttention(8, 2, project_inputs=True)
    x, memory = tokens(5), tokens(7, seed=1)
    q, k, v = module.query(x), module.key(memory), module.value(memory)
    heads = [
        (q[..., part] @ k[..., part].mT / 2).softmax(-1) @ v[..., part]  # sqrt of four channels a head
        for part in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(module(x, memory, memory), module.projection(torch.cat(heads, 2)))


def test_inputs_are_taken_as_they_are():
    module = MultiheadAttention(8, 2, project_inputs=False)
    assert {name for name, _ in module.named_parameters()} == {'projection.weight', 'projection.bias'}
    x, memory = tokens(5), tokens(1, seed=1)  # a single key: its value comes out
    torch.testing.assert_close(module(x, memory, memory), module.projection(memory).expand(-1, 5, -1))


def test_the_order_of_the_memory_does_not_matter():
    module = MultiheadAttention(8, 2, project_inputs=False)
    x, memory = tokens(5), tokens(7, seed=1)
    torch.testing.assert_close(module(x, memory, memory), module(x, memory.flip(1), memory.flip(1)))


def test_short_term_attention_sees_the_window_only():
    torch.manual_seed(0)
    module = ShortTermAttention(8, 2, window=3)
    size = (4, 6)
    x, memory = tokens(24), tokens(24, seed=1)
    out = module(x, memory, memory, size)
    assert out.shape == (2, 24, 8)
    changed = memory.clone()
    changed[:, 2 * 6 + 3] += 1  # the key at row 2, column 3
    difference = (module(x, changed, changed, size) - out).abs().sum((0, 2)).view(size)
    rows, columns = (difference > 0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 2, 4)


def test_relative_terms_are_the_grouped_convolution():
    """The released code computes them by the convolution; a bias on one offset moves the attention there."""
    torch.manual_seed(0)
    module = ShortTermAttention(8, 2, window=3)
    with torch.no_grad():
        module.relative_key.weight.zero_()
        module.relative_key.bias.zero_().view(2, 9)[:, 5] = 100  # the right neighbour
    x, memory = tokens(24), tokens(24, seed=1)
    out = module(x, memory, memory, (4, 6)).view(2, 4, 6, 8)
    expected = module.projection(memory).view(2, 4, 6, 8)
    torch.testing.assert_close(out[:, :, :5], expected[:, :, 1:])
