"""``fastvid COMMAND``: the doors under one name."""

import importlib
import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fastvid.__main__ import COMMANDS, main
from fastvid.command import command


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == listed
    assert [line.split()[0] for line in listed.splitlines()[2 : 2 + len(COMMANDS)]] == list(COMMANDS)


def test_listing_needs_the_standard_library_only():
    code = "import sys, fastvid.__main__ as m; m.main([]); sys.exit(bool({'torch', 'tyro'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_unknown_commands_are_answered(capsys):
    assert main(["trian"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("no command 'trian': choose one of train, data,")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name):
    assert callable(importlib.import_module(COMMANDS[name]).main)


def test_arguments_and_exit_codes_are_handed_on(monkeypatch, capsys):
    def ends(result):
        @command
        def door(arguments):
            assert arguments == ["salt", "--help"]
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(importlib, "import_module", {COMMANDS["train"]: SimpleNamespace(main=door)}.__getitem__)
        return main(["train", "salt", "--help"])

    assert ends(0) == 0
    assert ends(143) == 143
    assert ends(KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError())


def test_a_door_speaks_for_itself(capsys):
    assert main(["report", "/nowhere"]) == 2
    assert "is not a run directory" in capsys.readouterr().err
