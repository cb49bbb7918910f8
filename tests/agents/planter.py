"""An agent of one's own that leaves files in its folder: told as JSON, path -> content."""

import json
import sys
from pathlib import Path

for name, content in json.loads(json.loads(sys.stdin.readline())["text"]).items():
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
print(json.dumps({"type": "result", "text": "Planted."}))
