"""What a training engineer imports: open a release with keys that live in memory alone."""

from safehold.readers.opening import Opening, open_with_broker

__all__ = ["Opening", "open_with_broker"]
