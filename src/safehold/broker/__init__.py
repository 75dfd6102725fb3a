"""The broker: keys by proof. It decides, records, and only then releases. No entry, no key."""
