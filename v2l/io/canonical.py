"""Text that is equal for equal values."""

import json


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal configuration gives equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
