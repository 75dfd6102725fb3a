"""What a training engineer imports: open a release with keys that live in memory alone."""

from safehold.broker.connection import Connection, connect
from safehold.readers.opening import Opening, open_with_broker

__all__ = ["Connection", "Opening", "connect", "open_with_broker"]
