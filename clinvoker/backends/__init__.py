"""The backends: one file per protocol, one line of registration here."""
