"""Whatever goes wrong: two lines on stderr, the right exit code, and no traceback unless asked for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image as Pillow

from emova_sdk.cli import app as root
from emova_sdk.cli import main
from emova_sdk.types import Audio


def _bad_audio(kind: str) -> str:
    path = Path(f"{kind}.wav")
    Audio.silence(1.0, 16_000).save("whole.wav")
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(Path("whole.wav").read_bytes()[:9000])
        case "cut-in-the-header":
            path.write_bytes(Path("whole.wav").read_bytes()[:20])
        case "text":
            path.write_text("this is not a sound\n" * 20)
        case "folder":
            path.mkdir()
        case "one-hour":
            path = Path("one-hour.flac")
            soundfile.write(path, np.zeros(3600 * 1000, np.int16), 1000)
        case "missing":
            pass
    return str(path)


def _bad_image(kind: str) -> str:
    path = Path(f"{kind}.png")
    match kind:
        case "1x1":
            Pillow.new("RGB", (1, 1)).save(path)
        case "20000x20000":
            Pillow.new("1", (20_000, 20_000)).save(path)
        case "too-large":
            Pillow.new("1", (9_000, 9_000)).save(path)
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("this is not a picture")
        case "truncated":
            Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save("whole.png")
            path.write_bytes(Path("whole.png").read_bytes()[:4000])
        case "missing":
            pass
    return str(path)


def _is_one_clear_error(done, code=1):
    assert done.code == code
    assert done.out == ""
    first, second = done.err.strip().splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("kind", ["empty", "truncated", "cut-in-the-header", "text", "folder", "one-hour", "missing"])
def test_bad_sound(emova, kind):
    for command in (["chat", "--json", "--audio"], ["listen"]):
        done = emova(*command, _bad_audio(kind)) if not Path(f"{kind}.wav").is_dir() else emova(*command, f"{kind}.wav")
        _is_one_clear_error(done)


@pytest.mark.parametrize("kind", ["1x1", "20000x20000", "too-large", "empty", "text", "truncated", "missing"])
def test_bad_image(emova, kind):
    path = _bad_image(kind)
    for command in (["chat", "hello", "--json", "--image", path], ["look", path, "what is it"]):
        _is_one_clear_error(emova(*command))


def test_the_limit_is_the_config_s(emova, voice):
    done = emova("listen", str(voice), "--set", "limits.max_audio_s=0.2")
    _is_one_clear_error(done)
    assert "0.2 s" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", ""],
        ["chat", "hello", "--out", "answer.mp3"],
        ["chat", "hello", "--out", "missing/answer.wav"],
        ["chat", "hello", "-c", "nonsense"],
        ["chat", "hello", "--set", "vocoder.type=nonsense"],
        ["chat", "hello", "--speaker", "a b"],
        ["speak", " "],
        ["config", "show", "missing.toml"],
        ["components", "show", "nonsense"],
        ["components", "show", "nonsense", "--slot", "vocoder"],
        ["components", "list", "--slot", "nonsense"],
        ["components", "check", "--slot", "nonsense"],
        ["components", "check", "--slot", "vocoder", "--set", "vocoder="],
    ],
)
def test_errors_exit_with_1(emova, arguments):
    _is_one_clear_error(emova(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [["chat", "--nonsense"], ["nonsense"], ["chat", "hello", "--emotion", "bored"], ["look"], ["config"], ["speak", "a", "b"]],
)
def test_bad_usage_exits_with_2(emova, arguments):
    done = emova(*arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "hint: see `emova" in done.err


def test_debug_shows_the_traceback_wherever_it_stands(emova):
    for arguments in (["--debug", "listen", "missing.wav"], ["listen", "missing.wav", "--debug"]):
        done = emova(*arguments)
        assert done.code == 1
        assert "Traceback" in done.err
        assert "\nerror: " in done.err


def test_text_after_two_dashes_is_text(emova):
    assert "--debug --help" in emova("chat", "--", "--debug --help").out
    assert emova("chat", "--", "--help").out.startswith("emova: ")


def test_what_nobody_foresaw_is_said_in_two_lines(emova, monkeypatch):
    from emova_sdk.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "load", lambda self: 1 / 0)
    done = emova("chat", "hello")
    _is_one_clear_error(done)
    assert "ZeroDivisionError" in done.err


def test_interruption_exits_with_130(emova, monkeypatch):
    from emova_sdk.session import Session

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "ask", interrupted)
    done = emova("chat", "hello")
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


def test_an_error_without_a_hint_is_one_line(emova, monkeypatch):
    from emova_sdk.errors import EmovaError

    monkeypatch.setattr(root, "load_commands", lambda: (_ for _ in ()).throw(EmovaError("it broke")))
    assert emova("version").err == "error: it broke\n"


def test_ctrl_c_before_anything_ran(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "run", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 130


def test_main_exits_with_the_code(emova):
    with pytest.raises(SystemExit) as stopped:
        main(["nonsense"])
    assert stopped.value.code == 2


def test_a_reader_that_goes_away_ends_a_command_without_a_word(monkeypatch, emova):
    abandoned = []

    def write(*_ignored, **_options):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")  # which typer turns into SystemExit

    monkeypatch.setattr(root, "_abandon_stdout", lambda: abandoned.append(True))
    monkeypatch.setattr("emova_sdk.cli.commands.config.typer.echo", write)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which typer replaces
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    found = emova("config", "schema")
    assert (found.code, found.err, abandoned) == (1, "", [True])


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -c 'from emova_sdk.cli import main; main()' config schema | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout) == 10
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of a POSIX terminal")
def test_ctrl_c_stops_a_running_command():
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background jobs ignore it
    code = f"{listen}; import emova_sdk.cli as c; c.main(['chat', '-c', 'fake', '--set', 'vocoder.delay_s=0.05'])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdin.write("say " * 400 + "\n")
        process.stdin.flush()
        assert process.stdout.read(7) == "emova: "
        process.send_signal(signal.SIGINT)  # the answer, which would take minutes
        assert any("[stopped]" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)  # the conversation
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == "interrupted\n"


def test_a_package_whose_entry_points_cannot_be_read_stops_no_command(tmp_path):
    package = tmp_path / "bad-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (package / "entry_points.txt").write_bytes(b"\xc6\x28\xff")
    code = "import emova_sdk.cli as c; c.main(['config', 'show', 'fake'])"  # a new process: pydantic looks once
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": search}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def _module(name, code):
    Path(name).mkdir()
    Path(name, "__init__.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "named", "told"),
    [
        ("raise ImportError('libfoo.so.1: cannot open shared object file')", "brokenpack", "libfoo.so.1"),
        ("from json import nothing_of_this_name", "brokenpack", "nothing_of_this_name"),
        ("import brokenpack.part_that_is_gone", "brokenpack", "part_that_is_gone"),
        ("import gonepack", "gonepack", "is needed, and not installed"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(emova, monkeypatch, tmp_path, code, named, told):
    from emova_sdk.pipeline import Pipeline

    _module("brokenpack", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(Pipeline, "load", lambda self: __import__("brokenpack"))
    done = emova("chat", "hello")
    _is_one_clear_error(done)
    assert f"the package `{named}`" in done.err and told in done.err
    assert done.err.splitlines()[1].startswith("hint: run pip install") and done.err.rstrip().endswith(named)


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["bench", "--out", "bars.png"], "bars.png"),
        (["eval", "nano", "--out", "card.md"], "card.md"),
        (["eval", "nano", "--out", "card.json"], "card.json"),
        (["demo", "--out", "mine"], "mine/reply.wav"),
        (["demo", "--input", "mine"], "mine/scene.png"),
        (["train", "nano", "--budget-s", "1", "--out", "mine"], "mine/assistant.toml"),
    ],
)
def test_nothing_is_overwritten_unless_that_is_asked_for(emova, arguments, file):
    Path("mine").mkdir()
    Path(file).write_text("precious")
    _is_one_clear_error(done := emova(*arguments))
    assert "already" in done.err and "`--force`" in done.err
    assert Path(file).read_text() == "precious"


def test_demo_finds_a_folder_of_its_own(emova):
    Path("demo").mkdir()
    assert "demo-2/reply.wav" in emova("demo").out
    assert emova("demo", "--input", "demo").code == 0
    assert emova("demo", "--input", "demo").code == 1
    assert emova("demo", "--input", "demo", "--force").code == 0
