"""The command line: ``sjg segment``, ``demo``, ``evaluate``, ``report``, ``versions``."""

from sjg.cli._app import app, main

__all__ = ["app", "main"]
