"""Who and what there is: parties, members, hosts, datasets, runs, models. Each becomes an entry, once."""

from safehold.registry.people import People
from safehold.registry.register import Registry

__all__ = ["People", "Registry"]
