"""A process that holds up the others is named by them, and by itself."""

import re

import pytest
import torch
from torch import distributed as dist

from fastvid.command import UserError
from fastvid.train.config import Launch, RunConfig
from fastvid.train.distributed import World
from fastvid.train.restarts import after_restart
from fastvid.train.watch import Place, Watch, held_up_by, sentence_about

LIMIT = 60.0


class Group:
    """Watches of processes that share a store and a clock, without threads."""

    def __init__(self, count):
        self.now, self.said = 0.0, {}
        store = dist.HashStore()
        self.watches = [
            Watch(
                store, World(rank, count, torch.device("cpu")), LIMIT,
                end=lambda sentence, named, rank=rank: self.said.update({rank: (sentence, named)}),
                clock=lambda: self.now,
            )
            for rank in range(count)
        ]  # fmt: skip

    def at(self, place, *ranks, long=False):
        for rank in ranks:
            self.watches[rank].at(place, long=long)

    def go_on(self, seconds, *, without=()):
        """Let time pass, in which the threads of all but some processes do their part."""
        end = self.now + seconds
        while self.now < end:
            self.now += self.watches[0].interval_s
            living = [watch for rank, watch in enumerate(self.watches) if rank not in without]
            for watch in living:
                watch.beat()
            for watch in living:
                watch.look()


def test_a_process_that_does_not_come_is_named_with_its_place():
    group = Group(4)
    group.at("the loading of a batch of step 7", 0, 1, 2, 3)
    group.at("the passes of step 7", 0, 1, 3)
    group.go_on(LIMIT - 10)
    assert group.said == {}
    group.go_on(30)
    assert group.said.keys() == {0, 1, 2, 3}
    assert [named for _, named in group.said.values()] == [False, False, True, False]
    for sentence, _ in group.said.values():
        assert re.match(r"3 of 4 processes have waited for 1\.\d minutes for process 2 \(host ", sentence)
        assert "which is at the loading of a batch of step 7: the run ends here" in sentence


def test_a_process_that_is_stopped_is_named_though_it_is_at_the_same_place():
    group = Group(3)
    group.at("the passes of step 7", 0, 1, 2)
    group.go_on(LIMIT + 20, without=[1])
    assert group.said.keys() == {0, 2}
    assert "for process 1 (host" in group.said[0][0]


def test_an_evaluation_is_waited_for_as_long_as_its_process_lives():
    group = Group(2)
    group.at("the evaluation after step 5", 0, 1, long=True)
    group.at("the end of the evaluation after step 5", 1)
    group.go_on(10 * LIMIT)
    assert group.said == {}
    group.go_on(2 * LIMIT, without=[0])
    assert "for process 0 (host" in group.said[1][0]
    assert "which is at the evaluation after step 5" in group.said[1][0]


def test_a_process_that_is_stopped_is_named_where_all_gather_for_an_evaluation():
    group = Group(2)
    group.at("the evaluation after step 5", 0, 1, long=True)
    group.go_on(10 * LIMIT)
    assert group.said == {}
    group.go_on(2 * LIMIT, without=[1])
    assert "for process 1 (host" in group.said[0][0]


def test_a_process_that_does_not_come_to_an_evaluation_is_named():
    group = Group(2)
    group.at("the passes of step 5", 0, 1)
    group.at("the evaluation after step 5", 0, long=True)
    group.go_on(2 * LIMIT)
    assert "for process 1 (host" in group.said[0][0]
    assert "which is at the passes of step 5" in group.said[0][0]


def test_steps_that_go_on_are_never_looked_at():
    group = Group(2)
    for step in range(40):
        group.at(f"the passes of step {step}", 0, 1)
        group.go_on(LIMIT / 2)
    assert group.said == {}


def places(*numbers, beats=1):
    return [Place(number, f"place {number}", False, beats, f"host {number}") for number in numbers]


def test_all_at_one_place_is_said_of_the_network():
    assert held_up_by(places(3, 3), places(3, 3, beats=2)) == []
    assert "all 2 processes have been at the same place for 5 minutes (place 3): look at the network" in sentence_about(
        [], places(3, 3), 5
    )


def test_of_many_processes_some_are_named_and_the_others_counted():
    before, now = places(*range(1024)), places(*range(1024), beats=2)
    assert held_up_by(before, now) == [0]
    sentence = sentence_about(range(100), now, 5)
    assert sentence.count("host") == 8
    assert "and 92 more" in sentence


@pytest.fixture
def torchrun(monkeypatch):
    def restarted(times, most):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(times))
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(most))

    restarted(0, 0)
    return restarted


def test_after_a_restart_the_run_is_resumed(torchrun, tmp_path):
    options, run = RunConfig(dir=str(tmp_path / "run")), tmp_path / "run"
    torchrun(1, 3)
    assert after_restart(options, Launch()).resume is None  # a process died before the run began
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert after_restart(options, Launch()).resume == run
    assert after_restart(options, Launch(resume=tmp_path)).resume == tmp_path
    torchrun(0, 3)
    assert after_restart(options, Launch()).resume is None  # and is refused: it is another run


def test_a_run_that_a_restart_would_not_find_is_refused(torchrun):
    assert after_restart(RunConfig(), Launch()).resume is None
    torchrun(0, 3)
    with pytest.raises(UserError, match=r"name its directory with --run\.dir"):
        after_restart(RunConfig(), Launch())
