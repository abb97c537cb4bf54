import torch

from mmplugins.models.segmentors.aot.identity import IdentityBank, from_slots, shuffled_slots, to_slots


def masks(height=33, width=49, seed=0):
    return torch.randint(0, 4, (2, height, width), generator=torch.Generator().manual_seed(seed))


def test_shapes():
    assert IdentityBank(3, 8, align_corners=True)(masks()).shape == (2, 3 * 4, 8)
    assert IdentityBank(3, 8, align_corners=False)(masks(32, 48)).shape == (2, 2 * 3, 8)


def test_one_object_by_hand():
    """A mask of one value gives the sum over the kernel of that identity, plus the bias, away from the border."""
    bank = IdentityBank(3, 8, align_corners=False)
    embedding = bank(torch.full((1, 16, 16), 2))
    torch.testing.assert_close(embedding[0, 0], bank.conv.weight[:, 2].sum((1, 2)) + bank.conv.bias)


def test_pixels_without_identity():
    """255, and any value beyond the identities, counts for none, not for the background."""
    bank = IdentityBank(3, 8, align_corners=True)
    for value in (255, 4):
        embedding = bank(torch.full((1, 33, 33), value, dtype=torch.uint8))
        torch.testing.assert_close(embedding, bank.conv.bias.expand_as(embedding))


def test_dtype_of_the_mask_does_not_matter():
    bank = IdentityBank(3, 8, align_corners=True)
    expected = bank(masks())
    for dtype in (torch.uint8, torch.int64, torch.float32):
        assert torch.equal(bank(masks().to(dtype)), expected)


def test_initialisation():
    """Orthogonal rows scaled by the kernel's area, so that a patch of one object gives an embedding of unit order."""
    weight = IdentityBank(10, 64, align_corners=True).conv.weight.detach().flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(64) * 17.0**-4, atol=1e-9, rtol=1e-4)


def test_shuffle():
    slots = shuffled_slots(50, 10, 'cpu')
    assert slots.dtype == torch.int64
    assert (slots[:, 0] == 0).all()
    assert (slots.sort(1).values == torch.arange(11)).all()
    assert len(slots.unique(dim=0)) > 40


def test_there_and_back():
    """Logits that say which identity a pixel has say which object it has once they are ordered back."""
    slots = torch.tensor([[0, 3, 1, 2], [0, 2, 3, 1]])
    mask = masks()
    identities = to_slots(mask.to(torch.uint8), slots)
    assert identities[0][mask[0] == 1].unique().tolist() == [3]
    assert identities[1][mask[1] == 1].unique().tolist() == [2]
    logits = torch.nn.functional.one_hot(identities, 4).movedim(3, 1)
    assert torch.equal(from_slots(logits, slots).argmax(1), mask)


def test_ignored_pixels_stay():
    mask = torch.tensor([[[0, 1, 255, 3]]])
    assert to_slots(mask, torch.tensor([[0, 2, 1, 3]])).tolist() == [[[0, 2, 255, 3]]]
