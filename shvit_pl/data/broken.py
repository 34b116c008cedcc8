"""Images that can't be decoded: skipped, counted and named, as long as they are few."""

from __future__ import annotations

import logging

from shvit_pl.errors import UserError

_MOST = 0.01  # the share of broken images that a dataset may have
_FEW = 100  # of a stream's first images, one broken does not make the share
_log = logging.getLogger("shvit_pl")


class BrokenImages:
    """Counts broken images.

    Args:
        total: Images that this process reads; None for a stream, where those seen so far count.

    Attributes:
        reasons: What each broken image's error said, with its name.
    """

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self.reasons: dict[str, None] = {}
        self._seen = 0

    def count(self, reasons: list[str]) -> None:
        """Take a batch's reasons, '' for a whole image; raises `UserError` when too many are broken."""
        self._seen += len(reasons)
        new = [reason for reason in dict.fromkeys(reasons) if reason and reason not in self.reasons]
        self.reasons.update(dict.fromkeys(new))
        total = self.total if self.total is not None else max(self._seen, _FEW)
        if len(self.reasons) > _MOST * total:
            raise UserError(
                f"data.path: {len(self.reasons)} of {total} images can't be decoded, and more than {_MOST:.0%} stops a "
                f"run: {'; '.join(reason.rstrip('.') for reason in list(self.reasons)[:3])}. Repair or remove them."
            )
        for reason in new:
            _log.warning("skipped a broken image: %s", reason)
