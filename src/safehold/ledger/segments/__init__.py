"""Segments: copies of entries as Parquet, for queries. Sealed by entries, never believed without them."""
