"""Accuracies are fractions from 0 to 1 wherever they are shown; percent is left for what is listed here."""

import re
from html import unescape

from matplotlib.figure import Figure
from matplotlib.text import Text

_ALLOWED = r"95 % interval|80 % power|\d+% of '\w+' held out|\d+% of the training images"
_CODE = r"<(style|script|svg)\b.*?</\1>"


def assert_fractions(*outputs: str | Figure) -> None:
    """No text, and no text of a figure, has a percentage that could be an accuracy."""
    for output in outputs:
        texts = [text.get_text() for text in output.findobj(Text)] if isinstance(output, Figure) else [output]
        shown = re.sub(_CODE, "", unescape("\n".join(texts)), flags=re.DOTALL)
        left = re.sub(_ALLOWED, "", shown).splitlines()
        wrong = [
            line for line in left if re.search(r"%|percent|_pct|top-[15] (of the intact network )?[1-9]\d\.", line)
        ]
        assert not wrong, wrong
