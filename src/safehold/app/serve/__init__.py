"""The served broker: a front that speaks HTTP and holds nothing, and a vault process that decides and holds keys."""
