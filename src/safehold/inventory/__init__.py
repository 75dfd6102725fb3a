"""Inventory: what hosts hold and would run at start, what advisories say, and where the two meet."""

__all__: list[str] = []
