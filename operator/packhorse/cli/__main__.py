"""``python -m packhorse.cli`` is the command ``packhorse``."""

from packhorse.cli.main import main

main()
