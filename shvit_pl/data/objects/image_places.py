"""Where the images are that annotations name."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from shvit_pl.data.folders import SPLITS, account, image_paths


class ImagePlaces:
    """All images below a folder, found by path, then by a name that only one of them has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        paths = image_paths(folder)
        self._paths, self._taken = set(paths), set[str]()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._by_name[os.path.basename(path)].append(path)

    def find(self, name: str, folders: Sequence[Path], split: str) -> str | None:
        """Return the path of an image that annotations name, looked for in these folders first; None without one.

        By its name alone, none is found in a folder of another split.
        """
        name = name.removeprefix("file://").replace("\\", "/")
        for folder in folders:
            path = os.path.normpath(os.path.join(folder.absolute(), name))
            if path in self._paths:
                return self._take(path)
        same = [path for path in self._by_name.get(os.path.basename(name), []) if self._split(path) in (split, None)]
        near = [path for path in same if any(path.startswith(f"{folder.absolute()}{os.sep}") for folder in folders[:1])]
        if len(near or same) == 1:
            return self._take((near or same)[0])
        return None

    def _split(self, path: str) -> str | None:
        """Return the split that a folder's name says."""
        words = re.split(r"[\W\d_]+", os.path.dirname(self.short(path)).lower())
        return next((SPLITS[word] for word in words if word in SPLITS), None)

    def short(self, path: str) -> str:
        """Return a path below the folder for messages."""
        return os.path.relpath(path, self.folder)

    def account(self) -> str:
        """Return what became of all images, in a line."""
        left = sorted(self.short(path) for path in self._paths - self._taken)
        return account(len(self._taken), {"not in the annotations": left})

    def _take(self, path: str) -> str:
        self._taken.add(path)
        return path
