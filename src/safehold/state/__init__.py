"""What the ledger means now: projections by a pure fold, standing, lineage. Rebuildable, never authoritative."""
