import errno
import resource

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from mmplugins.engine.whole_files import NAME, latest_whole, why_not_whole
from mmplugins.files import NotWrittenError

CHECKPOINT = {'state_dict': {'weight': torch.arange(20000.0)}, 'meta': {'iter': 2}}
WHOLE = dict(backend=NAME)


def write(path, checkpoint=CHECKPOINT):
    save_checkpoint(checkpoint, str(path), backend_args=WHOLE)


def cut(path, size=30000):
    path.write_bytes(path.read_bytes()[:size])


def test_a_written_file_is_whole(tmp_path):
    write(tmp_path / 'new' / 'iter_2.pth')
    assert why_not_whole(tmp_path / 'new' / 'iter_2.pth') is None
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['iter_2.pth']
    assert torch.load(tmp_path / 'new' / 'iter_2.pth', weights_only=True)['meta'] == {'iter': 2}


def test_files_that_are_not(tmp_path):
    path = tmp_path / 'iter_2.pth'
    assert why_not_whole(path) == 'it is not there'
    path.touch()
    assert why_not_whole(path) == 'BadZipFile: File is not a zip file, 0 bytes'
    write(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert 'is damaged' in why_not_whole(path)
    cut(path)
    assert why_not_whole(path) == 'BadZipFile: File is not a zip file, 30,000 bytes'


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A limit on the size of files stands for the disk; the write fails half-way."""
    path = tmp_path / 'iter_2.pth'
    write(path)
    before = path.read_bytes()
    get_file_backend(str(path), backend_args=WHOLE).remove(str(path))  # max_keep_ckpts=1 removes before it writes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        with pytest.raises(
            NotWrittenError, match=r'iter_4\.pth of 0\.1 MB cannot be written \(File too large\)\. .*--resume'
        ):
            write(tmp_path / 'iter_4.pth')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ['iter_2.pth']
    assert path.read_bytes() == before
    write(tmp_path / 'iter_6.pth')
    assert [file.name for file in tmp_path.iterdir()] == ['iter_6.pth']


def test_a_removed_file_that_is_written_again_stays(tmp_path):
    path = tmp_path / 'best.pth'
    write(path)
    get_file_backend(str(path), backend_args=WHOLE).remove(str(path))
    write(path)
    write(tmp_path / 'iter_2.pth')
    assert path.is_file()


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(NotWrittenError, match='cannot be written') as error:
        write(tmp_path / 'file' / 'iter_2.pth')
    assert error.value.errno in (errno.ENOTDIR, errno.EEXIST)


class TestLatestWhole:
    def test_nothing(self, tmp_path):
        assert latest_whole(tmp_path) is None
        (tmp_path / 'last_checkpoint').touch()
        assert latest_whole(tmp_path) is None

    def test_the_named_one(self, tmp_path):
        for number in (2, 4, 6):
            write(tmp_path / f'iter_{number}.pth')
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
        assert latest_whole(tmp_path) == str(tmp_path / 'iter_4.pth')

    @pytest.mark.parametrize('named', ['', 'iter_4.pth', 'elsewhere/iter_6.pth'])
    def test_the_newest_whole_one_where_the_named_is_not(self, tmp_path, named, caplog):
        for number in (2, 4):
            write(tmp_path / f'iter_{number}.pth')
        cut(tmp_path / 'iter_4.pth')
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / named) if named else '')
        assert latest_whole(tmp_path) == str(tmp_path / 'iter_2.pth')

    def test_moved(self, tmp_path):
        write(tmp_path / 'epoch_1.pth')
        write(tmp_path / 'epoch_2.pth')
        (tmp_path / 'last_checkpoint').write_text('elsewhere/epoch_1.pth')
        assert latest_whole(tmp_path) == str(tmp_path / 'epoch_1.pth')
