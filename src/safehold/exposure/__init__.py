"""Exposure: what could have been taken, from which hosts, in which hours, by which keys; and what was not seen."""
