"""The package logger; sjg never configures the root logger."""

from __future__ import annotations

import logging

logger = logging.getLogger("sjg")
logger.addHandler(logging.NullHandler())
