"""Which process this is among those that a launcher started."""

import pytest

from fastvid.command import UserError
from fastvid.random import SampleRandom
from fastvid.train.distributed import environment_number, init_distributed, place_of_this_process
from fastvid.train.engine import step_seed

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "5"}
STEP = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}


@pytest.fixture
def launched(monkeypatch):
    """Set the variables of a launcher, and no other's."""
    for name in (*TORCHRUN, *ARRAY, *STEP, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def launch(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, (0, 1)),
        (TORCHRUN, (2, 4)),
        (ARRAY, (2, 3)),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, (1, 3)),
        (STEP, (1, 2)),
        ({**STEP, **ARRAY, **TORCHRUN}, (2, 4)),
        ({**STEP, **ARRAY}, (2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # the script of sbatch, which runs once
    ],
)
def test_the_place_is_read_from_the_launchers_variables(launched, variables, place):
    launched(variables)
    assert place_of_this_process() == place


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "two", "WORLD_SIZE": "4"}, "RANK is 'two'"),
        ({"RANK": "2", "WORLD_SIZE": "-4"}, "WORLD_SIZE is '-4'"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "rank 4 of 4"),
        ({**ARRAY, "SLURM_ARRAY_TASK_MIN": "x"}, "SLURM_ARRAY_TASK_MIN is 'x'"),
        ({**ARRAY, "SLURM_ARRAY_TASK_MIN": "8"}, "rank -1 of 3"),
    ],
)
def test_variables_that_describe_no_place_are_named(launched, variables, named):
    launched(variables)
    with pytest.raises(UserError, match=named):
        place_of_this_process()


def test_each_process_draws_by_itself():
    seeds = {step_seed("salt", 0, 1, rank) for rank in range(1024)}
    assert len(seeds) == 1024
    assert step_seed("salt", 0, 1, 3) == SampleRandom("salt", 0, 1, stream=3).word()  # as older runs drew


def test_a_variable_without_a_default_must_be_set(launched):
    assert environment_number("LOCAL_RANK", 3) == 3
    with pytest.raises(UserError, match="LOCAL_RANK is ''"):
        environment_number("LOCAL_RANK")
    launched({"LOCAL_RANK": "1"})
    assert environment_number("LOCAL_RANK", 3) == 1


def test_training_refuses_a_rank_that_is_no_number(launched):
    launched({"RANK": "first", "WORLD_SIZE": "1"})
    with pytest.raises(UserError, match="RANK is 'first'"):
        init_distributed()
