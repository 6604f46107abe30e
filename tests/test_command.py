"""How commands end: one sentence for what the user can put right, a traceback for a bug."""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastvid.command import UserError, command, sentence, user_errors
from fastvid.files import naming, write_whole
from tests.waiting import HANG

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/file")


def ends(error):
    """What a command says that ends with an exception."""

    @command
    def main() -> int:
        raise error

    return main()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such teacher"), "no such teacher\n"),
        (FULL, "/somewhere/file cannot be written: the disk is full ("),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "f"), "f cannot be written: the disk quota is used up"),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/x"), "/etc/x: Permission denied. Give a path"),
        (FileNotFoundError("no run in runs/x"), "no run in runs/x\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.json"), "x.json: No such file or directory\n"),
    ],
)
def test_what_the_user_can_put_right_is_one_sentence(capsys, error, words):
    assert ends(error) == 2
    said = capsys.readouterr().err
    assert said.startswith(words)
    assert said.count("\n") == 1


def test_a_cache_that_cannot_be_written_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path / "cache"))
    refused = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "cache" / "demo"))
    assert "set FASTVID_CACHE to a folder that can be written to" in sentence(refused)


def test_an_interrupt_is_quiet_and_a_bug_keeps_its_traceback(capsys):
    assert ends(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError())
    with pytest.raises(ValueError, match="a bug"):
        ends(ValueError("a bug"))


def test_only_the_named_exceptions_are_the_users():
    with pytest.raises(UserError, match=r"^there is no clip a$"), user_errors(KeyError):
        raise KeyError("there is no clip a")
    with pytest.raises(TypeError), user_errors(ValueError, OSError):
        raise TypeError("a bug")


DOORS = {
    "train": ("fastvid.projects.registry.find", ["salt"]),
    "data": ("importlib.import_module", ["demo"]),
    "cache": ("tyro.cli", []),
    "eval": ("tyro.cli", []),
    "predict": ("tyro.cli", []),
    "encode": ("tyro.cli", []),
    "export": ("tyro.cli", []),
    "sweep": ("fastvid.sweep.options.parse", ["vjepa2"]),
    "report": ("fastvid.report.page.write_report", ["run"]),
    "info": ("fastvid.info.facts", []),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_command_says_that_the_disk_is_full(door, capsys, monkeypatch):
    target, arguments = DOORS[door]
    name = f"fastvid.{door}" + (".__main__" if door not in ("encode", "predict", "export", "info") else "")
    main = importlib.import_module(name).main
    monkeypatch.setattr(target, lambda *_, **__: (_ for _ in ()).throw(FULL))
    assert main(arguments) == 2
    assert "/somewhere/file cannot be written: the disk is full" in capsys.readouterr().err


# Each with options that are right, so that it comes to load what it works with.
STARTS = {
    "predict": ["run", "video.mp4"],
    "encode": ["run", "y", "--out", "z"],
    "export": ["run", "--out", "y"],
    "info": [],
    "eval": ["run", "--data.path", "y"],
    "train salt": [],
    "train vjepa2": [],
    "report": ["run"],
    "cache": ["--teacher", "hf:x", "--data.path", "y", "--out", "z"],
    "cache verify": ["run", "--teacher", "hf:x", "--data.path", "y"],
    "sweep vjepa2": [],
    "data check": ["y"],
}


@pytest.mark.parametrize("door", STARTS)
def test_an_interrupt_during_imports_is_quiet(tmp_path, door):
    """Also where the module that is imported would have caught it, as native code and ``exec`` do in other ways."""
    module = "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
    for name in ("torch", "matplotlib", "av"):  # whichever comes first
        (tmp_path / f"{name}.py").write_text(module + "except BaseException:\n    pass\n")
    (tmp_path / "run").mkdir()
    done = _door(tmp_path, door, *STARTS[door])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_of_the_work_is_quiet_wherever_it_comes_and_ignored_once_all_is_done(tmp_path):
    """In ``exec``, CPython notes the KeyboardInterrupt and dies by the signal although it was caught."""
    torch = "import atexit, os, signal\n__version__ = ''\n"
    torch += "atexit.register(lambda: print(signal.getsignal(signal.SIGINT).name))\n"
    (tmp_path / "torch.py").write_text(torch)
    command = "import sys\nfrom fastvid import command\ncommand.interrupt_quietly()\nimport torch, os, signal\n"
    command += "@command.command\ndef main():\n    if len(sys.argv) > 1:\n        exec('os.kill(os.getpid(), 2)')\n"
    command += "    return 0\n"
    (tmp_path / "program.py").write_text(command + "sys.exit(main())\n")
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for arguments, code in (((), 0), (("interrupted",), 130)):
        process = [sys.executable, str(tmp_path / "program.py"), *arguments]
        done = subprocess.run(process, env=path, capture_output=True, text=True, timeout=HANG)
        assert (done.returncode, done.stdout, done.stderr) == (code, "SIG_IGN\n", "")


@pytest.fixture(autouse=True)
def _interrupts_arrive():
    """What a shell runs in the background ignores SIGINT, and so would the processes that the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


HEAVY = ("timm", "torchvision", "transformers", "matplotlib", "av")


# Commands that take what they do not know for a run, or hand it on.
TAKES_ANYTHING = {"report", "info", "sweep vjepa2"}
WITH_HELP = [
    "train salt", "train vjepa2", "train fvlm", "train trajectory", "eval", "cache", "cache verify", "sweep vjepa2",
    "encode", "predict", "export", "report", "info",
]  # fmt: skip
_EACH_DOOR = """
import contextlib, io, json, runpy, sys
found = {}
for command in json.loads(sys.argv[1]):
    name, *arguments = command
    sys.argv = [name, *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(f"fastvid.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as error:
            code = error.code
    found[" ".join(command)] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(found))
"""


def test_help_and_mistyped_options_load_nothing_heavy(tmp_path):
    """One process for all commands: what one of them imported would be there for the others, and is nothing."""
    for name in HEAVY:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} was imported')\n")
    asked = [[*door.split(), "--help"] for door in WITH_HELP]
    asked += [[*door.split(), "--no-such-option", "3"] for door in WITH_HELP if door not in TAKES_ANYTHING]
    done = _python(tmp_path, "-c", _EACH_DOOR, json.dumps(asked))
    assert done.returncode == 0, done.stderr
    for asked_for, (code, out, err) in json.loads(done.stdout).items():
        if asked_for.endswith("--help"):
            assert (code, err) == (0, ""), asked_for
            assert "usage" in out.lower() or "python -m fastvid" in out, asked_for
        else:
            assert code == 2, asked_for
            assert "imported" not in err, asked_for


def _door(folder, door, *arguments):
    """Runs a command with the modules in a folder before all others."""
    name, *rest = door.split()
    return _python(folder, "-m", f"fastvid.{name}", *rest, *arguments)


def _python(folder, *arguments):
    """Runs Python with the modules in a folder before all others."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=HANG)


def test_programs_that_import_the_package_handle_interrupts_themselves():
    code = "import signal, fastvid; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_output_to_a_full_disk_is_one_sentence(tmp_path):
    """A file that may not grow stands for the disk."""
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
    code += "import fastvid.info as info, sys\nsys.exit(info.main([]))"
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, timeout=HANG)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "a file cannot be written: it is larger than the limit on the size of a file (ulimit -f). Make room and give "
        "the same command again\n"
    )


def test_a_write_names_its_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize(
    "said",
    ["I/O error: No space left on device (os error 28)",
     'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'],
)  # fmt: skip
def test_errors_of_safetensors_are_those_of_the_file_system(tmp_path, said):
    from safetensors import SafetensorError

    with pytest.raises(OSError, match="No space left") as caught, naming(tmp_path):
        raise SafetensorError(f"Error while serializing: {said}")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    with pytest.raises(SafetensorError, match="bug"), naming(tmp_path):
        raise SafetensorError("a bug")


def test_what_eval_found_is_not_lost_where_it_cannot_be_written(tmp_path, capsys, monkeypatch):
    from fastvid.eval import __main__ as door

    found = {"rows": [{"encoder": "student"}]}
    monkeypatch.setattr(door, "evaluate", lambda config: found)
    arguments = [str(tmp_path), "--data.path", "videos", "--out"]
    assert door.main([*arguments, "/proc/result.json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"data": [str(Path("videos").resolve())], **found}
    assert "/proc/" in err
    assert "the results are printed above" in err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(door, "evaluate", lambda config: pytest.fail("it worked for nothing"))
    assert door.main([*arguments, str(tmp_path / "x.json")]) == 2
    assert "cannot be written to: give --out a file elsewhere" in capsys.readouterr().err


def test_eval_says_where_encoders_come_from(tmp_path, capsys):
    from fastvid.eval import __main__ as door

    (tmp_path / "classifier").mkdir()
    assert door.main([str(tmp_path), "--data.path", "videos"]) == 2
    assert capsys.readouterr().err == (
        f"no encoder in {tmp_path}: give a run that has saved a student or a teacher, or a folder with encoder.json\n"
    )


def test_results_of_other_data_are_never_replaced(tmp_path, capsys, monkeypatch):
    from fastvid.eval import __main__ as door

    monkeypatch.setattr(door, "evaluate", lambda config: {"rows": [config.data.path, config.batch]})
    run = tmp_path / "run"
    run.mkdir()
    (run / "eval-val.json").write_text('{"rows": "of an older version"}')

    def evaluated(data, *options):
        assert door.main([str(run), "--data.path", str(data), *options]) == 0
        return Path(capsys.readouterr().out.removeprefix("written to ").strip())

    one, two = evaluated(tmp_path / "a" / "val"), evaluated(tmp_path / "b" / "val")
    table = evaluated(tmp_path / "a" / "val", "--data.labels", str(tmp_path / "labels.csv"))
    assert evaluated(tmp_path / "a" / "val" / ".", "--batch", "3") == one  # the same data again
    found = {path.name: json.loads(path.read_text())["rows"] for path in run.iterdir()}
    assert found == {
        "eval-val.json": "of an older version",
        one.name: [str(tmp_path / "a" / "val" / "."), 3],
        two.name: [str(tmp_path / "b" / "val"), 32],
        table.name: [str(tmp_path / "a" / "val"), 32],
    }
    assert evaluated(tmp_path / "c" / "test").name == "eval-test.json"
    before = one.read_text()
    assert door.main([str(run), "--data.path", str(tmp_path / "b" / "val"), "--out", str(one)]) == 2
    assert "exists, and not with results of" in capsys.readouterr().err
    assert one.read_text() == before


def test_a_demo_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    from fastvid.data.demo import files as demo_files

    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(demo_files, "_encoded_videos", lambda *_: iter([b""]))
    monkeypatch.setattr(demo_files.ShardWriter, "add", full)
    with pytest.raises(OSError, match="No space left") as caught:
        demo_files.write_demo(tmp_path / "demo", demo_files.DemoSize(1, 1))
    assert caught.value.filename == str(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
