"""What of a network is measured."""

from __future__ import annotations

from typing import Literal, get_args

Scope = Literal["attention", "network"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
