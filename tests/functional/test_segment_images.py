import numpy as np

from mmplugins.functional.segment_images import segment_ids, segment_image


def test_ids_and_images_are_inverse():
    ids = np.array([[0, 255, 256], [65535, 65536, 16777215]], dtype=np.int32)
    image = segment_image(ids)
    assert image.dtype == np.uint8
    assert image[0, 2].tolist() == [0, 1, 0]
    assert image[1, 1].tolist() == [0, 0, 1]
    assert np.array_equal(segment_ids(image), ids)
    assert segment_ids(image).dtype == np.int32
