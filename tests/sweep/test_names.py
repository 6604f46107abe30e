"""What runs and options of a sweep are called, where names could be mistaken for one another."""

from fastvid.sweep.grid import SweepRun
from fastvid.sweep.manifest import join, to_cells
from fastvid.sweep.options import GivenOptions
from fastvid.sweep.project_options import ProjectOptions
from fastvid.sweep.search import shared_values


def test_options_that_end_alike_are_both_kept():
    options = ProjectOptions("salt")
    base = {"--optim.lr": "0.1", "--teacher.optim.lr": "0.2", "--run.seed": "3"}
    assert shared_values(base, options) == {"optim.lr": 0.1, "teacher.optim.lr": 0.2, "seed": 3}


def test_no_run_takes_the_folder_of_another_that_is_no_longer_told_apart():
    options = ProjectOptions("salt")
    held = [SweepRun("lr0.002-seed0", {"--optim.lr": "1e-3", "--run.seed": "0"})]
    held.append(SweepRun("lr0.003-seed0", {"--optim.lr": "0.001", "--run.seed": "0"}))
    before = {"project": "salt", "search": None, "cells": to_cells(held, options), "options": {}}
    given = GivenOptions({"--optim.lr": ["0.002", "0.003"], "--run.seed": ["0"]}, {})
    runs = join(before, options, given, search=None, begun=True)[1]
    assert [run.name for run in runs] == ["lr0.002-seed0-2", "lr0.003-seed0-2"]
