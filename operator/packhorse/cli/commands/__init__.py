"""The commands' options and arguments, a file for each group.

Each command imports what carries it out only when it is called: so the help is there at once, and a mistake in the
command line is told at once.
"""
