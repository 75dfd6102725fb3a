"""The vault: releases are sealed into encrypted Parquet parts and opened with their keys.

The room knows nothing of people, grants or policy. Its public face, a module a job:

==============  ==========================================================================
``sources``     read JSONL, CSV and Parquet files, bit for bit
``groups``      which columns share a key
``seal``        ``prepare`` a release, then ``publish`` it
``manifest``    what a release says of itself; its digest is its identity
``envelope``    signatures over a manifest (DSSE)
``verify``      check a release folder without any key
``open``        give the records back, with keys
``output``      write them to JSONL, CSV or Parquet
``kek``         the key that wraps part keys, in a file behind a passphrase
``keystore``    wrapped part keys, durable and erasable
``store``       where sealed bytes lie: a folder or a bucket
==============  ==========================================================================

Nothing is imported here, so that a command which needs no vault does not pay for Arrow.
"""

__all__: list[str] = []
