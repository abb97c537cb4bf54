import errno
import os
from pathlib import Path

import pytest

from mmplugins.files import NotWrittenError, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_and_an_old_one(tmp_path):
    path = tmp_path / 'new' / 'ours.pth'
    write_whole(b'abc', path)
    assert path.read_bytes() == b'abc'
    path.chmod(0o600)
    write_whole(b'de', path)
    assert path.read_bytes() == b'de'
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path / 'new') == ['ours.pth']


def test_a_file_that_may_not_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / 'ours.pth'
    path.write_bytes(b'abc')
    monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write everything
    with pytest.raises(NotWrittenError, match=r'ours\.pth of 0\.0 MB cannot be written \(Permission denied\)$'):
        write_whole(b'de', path)
    assert path.read_bytes() == b'abc'
    assert names(tmp_path) == ['ours.pth']


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'ours.pth').symlink_to(tmp_path / 'far' / 'theirs.pth')
    for content in (b'abc', b'de'):
        write_whole(content, tmp_path / 'ours.pth')
        assert (tmp_path / 'ours.pth').is_symlink()
        assert (tmp_path / 'far' / 'theirs.pth').read_bytes() == content
    assert names(tmp_path / 'far') == ['theirs.pth']


def test_a_pipe_stays(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(b'abc', pipe)
        assert os.read(reader, 10) == b'abc'
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ['pipe']


@pytest.mark.skipif(not Path('/dev/fd').is_dir(), reason='there is no /dev/fd')
def test_an_open_pipe():
    reader, writer = os.pipe()
    try:
        write_whole(b'abc', Path(f'/dev/fd/{writer}'))
        assert os.read(reader, 10) == b'abc'
    finally:
        os.close(reader)
        os.close(writer)


def test_what_cannot_be_written(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_bytes(b'abc')
    with pytest.raises(NotWrittenError, match=r'folder of 0\.0 MB cannot be written \(Is a directory\)$') as error:
        write_whole(b'de', tmp_path / 'folder')
    assert error.value.errno == errno.EISDIR
    with pytest.raises(NotWrittenError, match=r'ours\.pth of 2\.0 MB cannot be written \(') as error:
        write_whole(bytes(2**21), tmp_path / 'file' / 'ours.pth')
    assert error.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert names(tmp_path) == ['file', 'folder']
    assert (tmp_path / 'file').read_bytes() == b'abc'
