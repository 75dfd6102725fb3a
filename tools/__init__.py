"""The house's own checks and set-up. Nothing here is part of the package."""

__all__: list[str] = []
