"""Sweeps of SALT: any of its options as axes, resumed and grown, ranked by probes and never by a loss."""

import csv
import html
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from fastvid.projects import salt
from fastvid.projects.salt.presets import PRESETS
from fastvid.projects.salt.sweep import read
from fastvid.projects.sweep import FinishedRun, Group, Measure, RunResult, SweepAxis, SweepPlan, shown
from fastvid.report.records import RunRecords
from fastvid.sweep.check import representatives
from fastvid.sweep.comparison import compare, group_interval
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import SweepRun
from fastvid.sweep.options import parse
from fastvid.sweep.page import headlines
from fastvid.sweep.project_options import ProjectOptions
from fastvid.train.config import parse as parse_training
from tests.sweep.conftest import starts
from tests.train.conftest import TINY

RECIPE = [sys.executable, str(Path(__file__).with_name("fake_salt.py"))]
GRID = ("--mask.ratio", "0.3,0.9", "--run.seed", "0,1", "--gpus", "0")
NAMES = ["ratio0.3-seed0", "ratio0.3-seed1", "ratio0.9-seed0", "ratio0.9-seed1"]


@pytest.fixture
def salt_sweep(sweep):
    return lambda *options, **more: sweep(*options, project="salt", recipe=RECIPE, **more)


def rows(out):
    with (out / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def words(out) -> str:
    page = re.sub(r"<svg.*?</svg>", " ", (out / "compare.html").read_text(), flags=re.DOTALL)
    page = re.sub(r"</?(b|span)\b[^>]*>", "", page.split("</style>")[-1])
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_sweep_is_ranked_by_the_probe_although_the_loss_says_the_opposite(salt_sweep, tmp_path):
    code, printed = salt_sweep(*GRID, "--optim.steps", "7", page=True)
    assert code == 0, printed.err
    assert "[4/4] ratio 0.9, seed 1: attentive probe " in printed.out
    assert [row["run"] for row in rows(tmp_path / "s")] == NAMES
    first, last = rows(tmp_path / "s")[0], rows(tmp_path / "s")[-1]
    assert (last["mask.ratio"], last["run.seed"]) == ("0.9", "1")
    assert float(last["loss"]) > float(first["loss"])
    assert 0 < float(last["attentive probe low"]) < float(last["attentive probe"]) < float(last["attentive probe high"])
    for name, (start,) in starts(tmp_path / "s").items():
        assert start["arguments"] == [
            "--mask.ratio", name[5:8], "--run.seed", name[-1], "--optim.steps", "7",
            "--run.dir", str(tmp_path / "s" / "runs" / name),
        ]  # fmt: skip
    text = words(tmp_path / "s")
    assert re.search(r"ratio 0\.9 \(\d\d\.\d %\) is best: its interval lies above 1 of the 1 others\.", text)
    assert re.search(r"1 0\.9 2 \d\d\.\d \[[\d.]+, [\d.]+\] ± [\d.]+ [\d.]+ to [\d.]+ .* 2 0\.3 2 ", text)
    assert "salt on demo · 4 of 4 runs have finished" in text
    assert "Along ratio" in text
    assert "nan" not in text


def test_runs_without_labels_are_not_ranked_by_their_loss(salt_sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_UNLABELLED", "1")
    code, printed = salt_sweep(*GRID, page=True)
    assert code == 0
    assert printed.out.count("no attentive probe, so it is not ranked") == 4
    text = words(tmp_path / "s")
    assert "nothing is ranked: no run has attentive probe" in text
    assert "leads" not in text
    assert "– 0.3 2 0.3" in text  # a row without a rank, but with its loss


def test_a_search_maximises_the_probe(salt_sweep, tmp_path):
    pytest.importorskip("optuna")
    code, printed = salt_sweep("--search", "ratio", "--trials", "3", "--gpus", "0")
    assert code == 0, printed.err
    found = json.loads((tmp_path / "s" / "search.json").read_text())
    assert {row["measure"] for row in found} == {"attentive probe"}
    assert [row["value"] for row in found] == sorted((row["value"] for row in found), reverse=True)
    assert sorted(row["run"] for row in rows(tmp_path / "s")) == [f"seed0-trial{i:04d}" for i in range(3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--probe.enabled", "False"), "leave --probe.enabled False out"),
        (("--probe.probes", "knn", "arrow"), "add attentive, linear to --probe.probes"),
    ],
)
def test_probes_cannot_be_switched_off(salt_sweep, tmp_path, options, words):
    code, printed = salt_sweep(*GRID, *options)
    assert code == 2
    assert words in printed.err
    assert not (tmp_path / "s").exists()


def test_a_sweep_goes_on_where_it_stopped(salt_sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STOP", NAMES[1])
    assert salt_sweep(*GRID)[0] == 1
    monkeypatch.delenv("FAKE_STOP")
    code, printed = salt_sweep(*GRID)
    assert code == 0
    assert "3 of 4 runs are finished already" in printed.out
    begun = starts(tmp_path / "s")
    assert {name: len(found) for name, found in begun.items()} == {name: 1 + (name == NAMES[1]) for name in NAMES}
    assert begun[NAMES[1]][1]["arguments"] == ["--resume", str(tmp_path / "s" / "runs" / NAMES[1])]


def test_a_changed_grid_adds_runs_and_repeats_none(salt_sweep, tmp_path):
    out = tmp_path / "s"
    assert salt_sweep(*GRID)[0] == 0
    # A new axis, whose value so far, the preset's 2e-3, is one of its values.
    code, _ = salt_sweep(*GRID, "--optim.lr", "2e-3,4e-3")
    assert code == 0
    added = [f"ratio{ratio}-lr4e-3-seed{seed}" for ratio in ("0.3", "0.9") for seed in (0, 1)]
    assert sorted(starts(out)) == sorted([*NAMES, *added])
    assert all(len(found) == 1 for found in starts(out).values())
    assert {(row["run"], float(row["optim.lr"])) for row in rows(out)} == {
        *((name, 0.002) for name in NAMES), *((name, 0.004) for name in added)
    }  # fmt: skip
    # An axis that is not given any more keeps its preset's value; a value written otherwise is the same run.
    assert salt_sweep("--mask.ratio", "0.30,.9", "--run.seed", "0", "--gpus", "0")[0] == 0
    assert len(starts(out)) == 8
    code, printed = salt_sweep(*GRID, "--optim.steps", "9")
    assert code == 2
    assert "no --optim.steps, now it is --optim.steps 9" in printed.err


def test_an_option_that_all_runs_shared_becomes_an_axis(salt_sweep, tmp_path):
    assert salt_sweep(*GRID, "--optim.lr", "1e-3")[0] == 0
    assert salt_sweep(*GRID, "--optim.lr", "1e-3,3e-3")[0] == 0
    assert len(starts(tmp_path / "s")) == 8
    assert sorted({row["optim.lr"] for row in rows(tmp_path / "s")}) == ["1e-3", "3e-3"]


@pytest.mark.parametrize(
    ("options", "option", "value"),
    [
        (("--optim.lr", "1e-3,fast"), "--optim.lr", "fast"),
        (("--mask.ratio", "0.5,1.5"), "--mask.ratio", "1.5"),
        (("--predictor.layout", "dense,crss"), "--predictor.layout", "crss"),
        (("--data.scale", "0.3 1.0,0.5"), "--data.scale", "0.5"),
        (("--optim.lrr", "1e-3"), "--optim.lrr", "--optim.lr"),
        (("--optim.lr", "1e-3,0.001"), "--optim.lr", "0.001"),
        (("--optim.lr", "1e-3", "2e-3"), "--optim.lr", "2e-3"),
        (("--optim.batch", "7,8", "--optim.accumulate", "2"), "--optim.batch", "7"),
        (("--preset", "demo,profo"), "--preset", "profo"),
        (("--data.path", "my", "videos"), "--data.path", "quotes"),
        (("--run.compile", "True,maybe"), "--run.compile", "maybe"),
    ],
)
def test_a_wrong_value_is_named_with_its_option_before_anything_is_made(salt_sweep, tmp_path, options, option, value):
    code, printed = salt_sweep(*options, "--gpus", "0")
    assert code == 2
    assert option in printed.err
    assert value in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_comma_separates_values_and_a_space_the_words_of_one():
    _, options, given = parse(
        "salt",
        ["--data.scale", "0.3", "1.0,0.5", "1.0", "--mask.specs", "vjepa_short vjepa_long,multiblock", "--run.compile",
         "True,False", "--teacher.source", "hf:a,b", "--teacher.source", "pixel", "--data.labels=/x,y.csv"],
    )  # fmt: skip
    parsed = {option: [options.parse(option, value) for value in values] for option, values in given.axes.items()}
    assert parsed == {
        "--data.scale": [(0.3, 1.0), (0.5, 1.0)],
        "--mask.specs": [("vjepa_short", "vjepa_long"), ("multiblock",)],
        "--run.compile": [True, False],
        "--teacher.source": ["hf:a,b", "pixel"],  # text is never split: its option is given once for each value
        "--run.seed": [0, 1],
    }
    assert given.fixed == {"--data.labels": "/x,y.csv"}


def test_the_check_covers_the_extremes_of_numbers_and_every_other_value():
    runs = [
        SweepRun(f"{layout}{lr}", {"--predictor.layout": layout, "--optim.lr": lr, "--run.seed": "0"})
        for layout in ("concat", "dense", "cross")
        for lr in ("1e-4", "3e-4", "2e-4")
    ]
    chosen = representatives(runs)
    assert {run.values["--predictor.layout"] for run in chosen} == {"concat", "dense", "cross"}
    assert {"1e-4", "3e-4"} <= {run.values["--optim.lr"] for run in chosen}
    assert len(chosen) <= 4
    assert representatives(runs[:1]) == runs[:1]


def group(values: list[float], half: float, **axes: str) -> list[FinishedRun]:
    """Runs of the given probe accuracies, each with an interval of +- ``half``."""
    return [
        FinishedRun(f"{axes} {seed}", {**axes, "--run.seed": str(seed)}, None, RunRecords(Path(), {}, {}, [], None,
                    None, [], {}), RunResult({"attentive probe": Measure(v, v - half, v + half, "%")}))
        for seed, v in enumerate(values)
    ]  # fmt: skip


def test_the_seed_has_its_short_name_whatever_axes_a_project_has(monkeypatch):
    monkeypatch.setattr(
        "fastvid.projects.salt.sweep.SWEEP", SweepPlan(read, ranks="a", axes=(SweepAxis("--mask.ratio"),))
    )
    _, _, given = parse("salt", ["--seed", "0,1"])
    assert given.axes["--run.seed"] == ["0", "1"]


def test_intervals_that_overlap_are_said_to():
    options = ProjectOptions("salt")
    runs = [*group([0.8, 0.7], 0.1, **{"--optim.lr": "1"}), *group([0.7], 0.1, **{"--optim.lr": "2"}),
            *group([0.3], 0.1, **{"--optim.lr": "3"})]  # fmt: skip
    found = compare(runs, options)
    assert [g.values["--optim.lr"] for g in found.at((), "attentive probe")] == ["1", "2", "3"]
    assert group_interval(found.groups[0], "attentive probe") == pytest.approx((0.65, 0.85))
    (line,) = headlines(found)
    assert "lr 1" in line
    assert "lies above 1 of the 2 others; where intervals overlap, a difference may be chance" in line
    assert found.pairs == []


def test_of_very_many_pairs_those_of_the_leader_are_tested_against_all_that_might_have_been():
    runs = []
    for lr in range(20):
        right = 0.9 if lr == 7 else 0.5
        items = {i: float(i < 100 * right) for i in range(100)}
        result = RunResult({"attentive probe": Measure(right, right - 0.1, right + 0.1, "%", items=items)})
        records = RunRecords(Path(), {}, {}, [], None, None, [], {})
        runs.append(FinishedRun(str(lr), {"--optim.lr": str(lr + 1), "--run.seed": "0"}, None, records, result))
    found = compare(runs, ProjectOptions("salt"))
    assert len(found.pairs) == 19
    assert {pair.a.values["--optim.lr"] for pair in found.pairs} == {"8"}
    assert all(pair.adjusted == pytest.approx(190 * pair.p) and pair.significant for pair in found.pairs)


def test_a_share_of_items_has_wilsons_interval_of_as_many_items_as_there_are():
    items = {i: float(i < 30) for i in range(40)}
    runs = tuple(
        FinishedRun("", {}, None, RunRecords(Path(), {}, {}, [], None, None, [], {}),
                    RunResult({"a": Measure(0.75, 0.0, 1.0, "%", items=items)})) for _ in range(3)
    )  # fmt: skip
    assert group_interval(Group({}, runs), "a") == pytest.approx((0.598, 0.858), abs=1e-3)  # of 40, not of 120


def test_values_are_shown_with_their_units():
    assert shown(0.8123, 0.76, 0.8551, "%") == "81.2 % [76.0, 85.5]"
    assert shown(1.52, unit="x") == "1.52 x"
    assert str(Measure(0.01234, 0.01, 0.02)) == "0.01234 [0.01, 0.02]"


@pytest.fixture
def one_thread():
    """Threads of arithmetic wait for each other in loops where the processor is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_real_run_is_read(tmp_path):
    """A short run, made in this process."""
    folder = SweepFolder(tmp_path, ProjectOptions("salt"))
    short = [
        "--optim.steps",
        "4",
        "--teacher.optim.steps",
        "3",
        "--health.every",
        "4",
        "--optim.lr",
        "1e-3",
        "--run.tensorboard",
        "False",
    ]
    _, options, given = parse("salt", [*TINY[: TINY.index("--teacher.optim.steps")], "--run.seed", "0", *short])
    for run in folder.begin(given):
        arguments = [part for option, value in {**run.values, **folder.fixed}.items()
                     for part in (option, *options.words(option, value))]  # fmt: skip
        arguments += ["--optim.batch", "8", "--teacher.optim.batch", "8", "--probe.attentive-epochs", "1",
                      "--run.dir", str(folder.run_path(run)), "--run.log-every", "2"]  # fmt: skip
        salt.train(parse_training("salt", PRESETS, "demo", arguments)[0])
    found = folder.finished()
    folder.close()
    assert [run.name for run in found] == ["seed0"]
    result = read(found[0].records)
    probe = json.loads((folder.run_path(folder.runs[0]) / "probe.json").read_text())
    assert result.measures["attentive probe"].value == probe["rows"][0]["attentive"]["accuracy"]
    assert list(result.measures) == [
        "attentive probe", "linear probe", "kNN probe", "attentive probe, untrained", "loss", "rank of tokens",
    ]  # fmt: skip
    assert len(result.curves["loss, stage salt"][0]) == 2
