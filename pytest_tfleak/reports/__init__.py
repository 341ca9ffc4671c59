"""Sinks of one ledger, one module each."""
