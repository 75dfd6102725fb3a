"""The values of Safehold: statements, ids, canonical bytes, errors. No I/O, no clock, no other room."""
