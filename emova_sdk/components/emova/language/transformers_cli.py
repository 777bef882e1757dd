"""The `transformers` command with EMOVA's classes known to it: `emova-transformers serve FOLDER`, `... chat`, and so on.

That command has no plug-ins: a class that transformers does not bring is known where its module was imported.
"""

from __future__ import annotations

from transformers.cli.transformers import main

# Importing these registers the classes with transformers.
from emova_sdk.components.emova.language import modeling, processing

__all__ = ["main", "modeling", "processing"]

if __name__ == "__main__":
    main()
