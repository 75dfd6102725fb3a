"""The ledger: the only place where facts are written, in the C2SP tlog formats that outsiders can verify."""
