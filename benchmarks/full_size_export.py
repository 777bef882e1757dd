"""What it takes to export and verify EMOVA at full size: seconds, peak memory of the process, size on disk.

    python benchmarks/full_size_export.py DIR [--precision fp32 fp16 int8 int4] [--part speech seeing] [--layers 2]

Makes the checkpoints of `full_size.py` in DIR, and runs `emova export onnx` and `emova export verify` as a user would, each in
a process of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from full_size import seeing_checkpoint, speech_checkpoint
from rich.console import Console
from rich.table import Table

SLOTS = {"speech": ("speech_tokenizer", "style_module", "vocoder"), "seeing": ("vision_encoder", "llm_core")}


def described(part, folder):
    """A config of the part's slots."""
    config = folder / f"{part}.toml"
    tables = [f'[{slot}]\ntype = "emova"\nmodel = "{(folder / part).resolve()}"\n' for slot in SLOTS[part]]
    config.write_text("\n".join(tables))
    return config


def measured(*arguments):
    """Run a command of `emova`: exit status, seconds, peak memory in GB."""
    program = str(Path(sys.executable).with_name("emova"))
    began = time.monotonic()
    process = os.spawnv(os.P_NOWAIT, program, [program, *map(str, arguments)])
    _, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began, usage.ru_maxrss * 1024 / 1e9  # KiB on Linux


def size_gb(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16", "int8", "int4"])
    parser.add_argument("--part", nargs="+", choices=list(SLOTS), default=list(SLOTS))
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    table = Table("part", "precision", "export", "peak", "verify", "peak", "on disk")
    for part in options.part:
        if not (options.folder / part).exists():
            if part == "speech":
                speech_checkpoint(options.folder / part)
            else:
                seeing_checkpoint(options.folder / part, layers=options.layers)
        config = described(part, options.folder)
        for precision in options.precision:
            out = options.folder / f"{part}-{precision}"
            shutil.rmtree(out, ignore_errors=True)
            failed, seconds, memory = measured("export", "onnx", "-c", config, "--precision", precision, "--out", out)
            if failed:
                sys.exit(failed)
            wrong, checking, held = measured("export", "verify", out, "-c", config)
            cells = (f"{seconds:.0f} s", f"{memory:.1f} GB", f"{checking:.0f} s", f"{held:.1f} GB", f"{size_gb(out):.2f} GB")
            table.add_row(part, precision, *cells)
            print(part, precision, *cells, sep=" | ", flush=True)
            if wrong:
                sys.exit(wrong)
    Console().print(table)


if __name__ == "__main__":
    main()
