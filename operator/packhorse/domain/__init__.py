"""Decisions, as pure functions: what was observed goes in, what shall be comes out. No I/O, no clock of its own."""
