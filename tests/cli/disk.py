"""A disk that fills up.

The limit on the size of files that the system sets (RLIMIT_FSIZE) makes real writes fail, as on a full disk.
"""

import resource
from contextlib import contextmanager


@contextmanager
def files_up_to(size):
    """No file of this process may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
