"""Explain a leak; nothing here runs without one."""
