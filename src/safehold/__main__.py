"""``python -m safehold``: the command line."""

from safehold.app.main import main

__all__: list[str] = []

main()
