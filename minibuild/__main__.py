"""``python -m minibuild``."""

from minibuild.cli.main import process

process()
