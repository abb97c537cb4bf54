"""``python -m mmplugins.with_ops TOOL ARGS``: runs another program where mmcv has no compiled operators.

The program finds the plain operators of ``mmplugins.ops`` as if mmcv had compiled ones::

    python -m mmplugins.with_ops mmdetection/tools/train.py CONFIG
    torchrun --nproc_per_node 2 -m mmplugins.with_ops mmdetection/tools/train.py CONFIG --launcher pytorch
    python -m mmplugins.with_ops -m package.module ARGS
"""

import runpy
import sys
from pathlib import Path
from typing import NoReturn

USAGE = 'usage: python -m mmplugins.with_ops {TOOL | -m MODULE} [ARGS ...]'


def main(arguments: list[str]) -> None:
    """Runs a program as ``python`` would.

    Args:
        arguments: Path of the program, or ``-m`` and the name of a module; then the program's own arguments.

    Raises:
        SystemExit: There is no such program, or it ended so.
    """
    if arguments[:1] in (['-h'], ['--help']):
        sys.stdout.write(f'{__doc__}\n')
        return
    if arguments[:1] == ['-m']:
        if len(arguments) < 2:
            _fail('-m needs the name of a module')
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
        return
    if not arguments:
        _fail('no program given')
    tool = Path(arguments[0])
    if not tool.is_file():
        _fail(f'there is no file {tool}')
    sys.argv = arguments
    sys.path.insert(0, str(tool.resolve().parent))
    runpy.run_path(str(tool), run_name='__main__')


def _fail(problem: str) -> NoReturn:
    sys.exit(f'{problem}\n{USAGE}')


if __name__ == '__main__':
    main(sys.argv[1:])
