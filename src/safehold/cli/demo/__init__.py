"""The demo: the incident of March 2026 replayed on real records, by the calls that the other verbs make."""

__all__: list[str] = []
