import pytest

from mmplugins.evaluation.functional import object_results, results_table, summarize, write_results


@pytest.fixture
def objects():
    """Two objects of ``a``, the second from its second frame on, and one of ``b``."""
    first = object_results('a', [{1: (0.8, 0.6)}, {1: (0.4, 0.2), 2: (1.0, 0.9)}])
    return first + object_results('b', [{1: (0.1, 0.3)}])


def test_objects(objects):
    assert [(x.video, x.number, x.frames) for x in objects] == [('a', 1, 2), ('a', 2, 1), ('b', 1, 1)]
    assert objects[0].region == pytest.approx((0.6, 0.5, 0.4))
    assert objects[0].boundary == pytest.approx((0.4, 0.5, 0.4))
    assert object_results('c', [{}, {}]) == []


def test_each_object_weighs_the_same(objects):
    """J: (0.6 + 1 + 0.1) / 3; F: (0.4 + 0.9 + 0.3) / 3."""
    expected = {'J-Mean': 1.7 / 3, 'J-Recall': 0.5, 'J-Decay': 0.4 / 3}
    expected |= {'F-Mean': 1.6 / 3, 'F-Recall': 0.5, 'F-Decay': 0.4 / 3}
    assert summarize(objects) == pytest.approx({'J&F': 3.3 / 6, **expected})


def test_table(objects):
    rows = [line.split() for line in results_table(objects).splitlines()]
    assert rows[0] == ['sequence', 'object', 'frames', *summarize(objects)]
    assert [row[:-7] for row in rows[1:]] == [
        ['a', '1', '2'],
        ['a', '2', '1'],
        ['a', 'mean'],
        ['b', '1', '1'],
        ['all', '3'],
    ]
    assert rows[3][-7:-5] == ['72.50', '80.00']
    assert rows[5][-7:-5] == ['55.00', '56.67']


def test_files(objects, tmp_path):
    write_results(tmp_path / 'new', objects)
    assert (tmp_path / 'new' / 'global_results.csv').read_text().splitlines() == [
        'J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay',
        '0.550,0.567,0.500,0.133,0.533,0.500,0.133',
    ]
    assert (tmp_path / 'new' / 'per-sequence_results.csv').read_text().splitlines() == [
        'Sequence,J-Mean,F-Mean',
        'a_1,0.600,0.400',
        'a_2,1.000,0.900',
        'b_1,0.100,0.300',
    ]
