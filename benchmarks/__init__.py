"""Benchmarks, each a script of its own; `python -m benchmarks.pictures` works as well as the path of the file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where a script finds what stands beside it
