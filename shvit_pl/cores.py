"""The cores of the CPU."""

import os


def cores_of_process() -> int:
    """Return the number of cores that this process may use: on a shared machine, fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
