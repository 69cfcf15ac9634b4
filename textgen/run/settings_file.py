"""``config.yaml`` of a run: all settings in force."""

import json
from collections.abc import Mapping
from typing import Any

import yaml


def settings_text(settings: Mapping[str, Any]) -> bytes:
    """The contents of the file."""
    # In ASCII: PyYAML does not always read back other characters as it wrote them.
    return yaml.safe_dump(dict(settings), sort_keys=False).encode()


def parse_settings(data: bytes) -> dict[str, Any] | None:
    """The settings in the contents of the file; None if they are damaged: not what a run can have written."""
    try:
        found = yaml.safe_load(data)
        json.dumps(found, sort_keys=True)  # a damaged value can look like a date, say
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else None
