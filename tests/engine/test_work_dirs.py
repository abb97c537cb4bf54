import errno
import os
import re

import pytest
from mmengine.config import Config

from mmplugins.engine.launch import UsageError
from mmplugins.engine.work_dirs import NO_ROOM, check_work_dir, named_if_full
from mmplugins.files import NotWrittenError


def test_the_work_dir_is_tried(tmp_path):
    check_work_dir(Config(dict(work_dir=str(tmp_path / 'new'))))
    assert not any((tmp_path / 'new').iterdir())
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match=r'work_dir .*file/run cannot be written \(Not a directory\); choose another'):
        check_work_dir(Config(dict(work_dir=str(tmp_path / 'file' / 'run'))))


class TestNamedIfFull:
    @pytest.mark.parametrize('code', NO_ROOM)
    def test_no_room(self, tmp_path, code):
        reason, remedy, gone = os.strerror(code), 'Make room', tmp_path / 'gone' / 'run'
        for work_dir in (tmp_path, gone):
            with pytest.raises(UsageError) as error, named_if_full(str(work_dir), remedy):
                raise OSError(code, reason)
            start = rf'a file cannot be written \({reason}\)\. The disk of work_dir {work_dir} has [\d.]+ MB left; '
            assert re.match(start, str(error.value))
            assert str(error.value).endswith('leave batches. Make room')
        with pytest.raises(UsageError) as error, named_if_full(str(tmp_path), remedy):
            raise OSError(code, reason, '/run/log')
        assert str(error.value) == f'/run/log cannot be written ({reason}). Make room'

    def test_a_checkpoint_says_it_all(self, tmp_path):
        with pytest.raises(UsageError, match=r'^iter_2, make room$'), named_if_full(str(tmp_path), 'Do more'):
            raise NotWrittenError(errno.EACCES, 'iter_2, make room')

    def test_other_errors_come_out(self, tmp_path):
        with pytest.raises(FileNotFoundError), named_if_full(str(tmp_path), 'Make room'):
            (tmp_path / 'gone').read_text()
        with pytest.raises(ZeroDivisionError), named_if_full(str(tmp_path), 'Make room'):
            1 / 0  # noqa: B018 (the error)
