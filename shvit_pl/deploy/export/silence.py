"""Converters talk a lot: nothing of it is shown, unless they fail."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO

_STREAMS = (1, 2)  # also of libraries in C++


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, logs, progress bars and prints of a block from the terminal; its exceptions pass."""
    sys.stdout.flush()
    sys.stderr.flush()
    level = logging.root.manager.disable
    kept = [os.dup(stream) for stream in _STREAMS]
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        _redirect(sink)
        try:
            with io.StringIO() as said, redirect_stdout(said), redirect_stderr(said):  # which may lead elsewhere
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip(_STREAMS, kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            logging.disable(level)


def _redirect(sink: IO[bytes]) -> None:
    for stream in _STREAMS:
        os.dup2(sink.fileno(), stream)
