"""``python -m minibuild``."""

from minibuild.cli.main import main

main()
