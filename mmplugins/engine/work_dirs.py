"""Whether a run can write: before it starts, and what to say where it stops."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from mmengine.config import Config

from mmplugins.files import MEGABYTE, NotWrittenError

from .launch import UsageError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def check_work_dir(cfg: Config) -> None:
    """Raises UsageError if files cannot be written to the work dir, which is made."""
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=cfg.work_dir) as file:
            file.write(b'x')
            file.flush()
    except OSError as error:
        raise UsageError(
            f'work_dir {cfg.work_dir} cannot be written ({error.strerror}); choose another with --work-dir, or make '
            'room'
        ) from error


@contextmanager
def named_if_full(work_dir: str, remedy: str) -> Iterator[None]:
    """Says what to do where a run stops because the disk is full, or has become read-only.

    Of a write into an open file, such as a log or ``last_checkpoint``, Python's error tells neither file nor folder.

    Args:
        work_dir: Where the run writes.
        remedy: What to do then.

    Raises:
        UsageError: Something could not be written.
    """
    try:
        yield
    except NotWrittenError as error:
        raise UsageError(error.strerror) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        if error.filename:
            raise UsageError(f'{error.filename} cannot be written ({error.strerror}). {remedy}') from error
        folder = next(folder for folder in (Path(work_dir), *Path(work_dir).absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(folder).free / MEGABYTE
        raise UsageError(
            f'a file cannot be written ({error.strerror}). The disk of work_dir {work_dir} has {free:.1f} MB left; if '
            'that is enough, another one is full: of --out, TMPDIR, or /dev/shm, where the workers of data loaders '
            f'leave batches. {remedy}'
        ) from error
