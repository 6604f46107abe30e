"""The tools the benchmarks are measured and reported with: thresholds, gates, medians, names, tables, the plot."""

import json

import pytest
import torch

from benchmarks import report
from benchmarks.harness import devices, recorder, roofline, thresholds, timing
from benchmarks.harness.devices import Device
from benchmarks.harness.recorder import Recorder
from benchmarks.harness.timing import Call, CpuTimer, Timed, Variant, summary

CPU = Device("cpu", "Some CPU, 2 threads", "cpu")
H200 = Device("cuda", "NVIDIA H200", "h200", 4800, 50 << 20)


def table(text):
    return thresholds.read(text.replace("SOURCE", 'source = "target: a test"'))


# Devices


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", ("rtx4090", 1008)),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", ("gpu", None)),
        ("NVIDIA GeForce RTX 5090", ("rtx5090", 1792)),
        ("NVIDIA H200", ("h200", 4800)),
        ("NVIDIA GH200 480GB", ("gpu", None)),
        ("NVIDIA H100 80GB HBM3", ("h100", 3350)),
        ("NVIDIA H100 PCIe", ("h100", 2000)),
        ("NVIDIA A100-SXM4-80GB", ("gpu", None)),
    ],
)
def test_class_and_datasheet_of_a_card(name, expected):
    assert devices.gpu_class(name) == expected


def test_slugs_are_file_names():
    assert devices.slug("NVIDIA GeForce RTX 4090") == "nvidia-geforce-rtx-4090"
    assert devices.slug("AMD EPYC, 2 threads") == "amd-epyc-2-threads"


def test_a_batch_as_large_as_the_cache_demands():
    least = 8 * H200.l2_bytes
    batch = H200.batch_over_l2(1_000_000)
    assert batch % 8 == 0
    assert batch * 1_000_000 >= least > (batch - 8) * 1_000_000


# Timers


def test_medians_and_percentiles():
    timed = summary([5.0, 1.0, 3.0, 2.0, 4.0, 100.0], "wall clock")
    assert (timed.median, timed.p20, timed.p80) == (3.5, 2.0, 5.0)


def test_ratios_are_of_the_fastest_round_of_a_wall_clock_and_of_the_median_of_a_gpu():
    """Another program takes most rounds twice their time: that of ours more often than that of the other variant."""
    assert summary([8.0, 4.0, 8.0], "wall clock").compared == 4.0
    assert summary([8.0, 4.0, 8.0], "graph").compared == 8.0
    assert Timed(3.0, 2.0, 4.0, "difference: a test").compared == 3.0


def test_timers_disagree_by_a_share_of_the_longer():
    assert timing.disagreement(4.0, 3.0) == timing.disagreement(3.0, 4.0) == 0.25


def test_passes_are_timed_apart_and_variants_take_turns():
    x = torch.ones(8, requires_grad=True)
    seen = []

    def variant(name):
        return Variant(lambda: seen.append(name) or (2 * x).sum(), inputs=[x])

    timer = CpuTimer({"fastvid": variant("a"), "other": variant("b")})
    times = timer.times(2)
    assert seen == ["a", "b"] * 3 + ["a", "b", "b", "a"]  # three rounds of warm-up
    assert list(times) == ["forward", "backward", "forward + backward"]
    for timed in times.values():
        assert timed["fastvid"].median > 0
    timer.times(3)
    assert len(seen) == 16
    assert {len(rounds) for variants in timer.found.values() for rounds in variants.values()} == {5}  # of both calls
    assert list(CpuTimer({"fastvid": Call(lambda: None)}).times(1)) == ["call"]


def test_what_takes_long_is_warmed_up_once(monkeypatch):
    monkeypatch.setattr(timing, "_WARM_S", 0.0)
    calls = []
    CpuTimer({"fastvid": Call(lambda: calls.append(1))}).times(2)
    assert len(calls) == 3


# Thresholds


def test_the_thresholds_we_have_are_valid():
    found = thresholds.read(thresholds.PATH.read_text())
    assert {"cpu", "gpu"} <= {cls for classes in found.values() for cls in classes}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[a.rtx4091]\n"call: us" = {at_most = 1, SOURCE}', "'rtx4091' is none of cpu"),
        ('[a.gpu]\n"sideways: us" = {at_most = 1, SOURCE}', "must start with one of forward"),
        ('[a.gpu]\n"call: speed" = {at_least = 1, SOURCE}', "'speed' is none of share of copy"),
        ('[a.gpu]\n"call: us" = {at_most = 1, at_least = 1, SOURCE}', "needs at_least or at_most"),
        ('[a.gpu]\n"call: us" = {at_most = 1}', "needs at_least or at_most, and source"),
        ('[a.gpu]\n"call: us" = {at_most = 1, note = "x", SOURCE}', "needs at_least or at_most"),
        ('[a.gpu]\n"call: us" = {at_most = 0, SOURCE}', "must be a positive number"),
        ('[a.gpu]\n"call: us" = {at_most = 1, source = "guessed: 3"}', "must start with measured:"),
    ],
)
def test_a_bad_threshold_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        table(text)


def test_a_card_has_the_thresholds_of_gpus_unless_it_has_its_own():
    found = table(
        '[a.gpu]\n"call: us" = {at_most = 20, SOURCE}\n"call: x b" = {at_least = 2, SOURCE}\n'
        '[a.h200]\n"call: us" = {at_most = 10, SOURCE}\n[a.cpu]\n"call: x b" = {at_least = 7, SOURCE}'
    )
    values = {cls: {str(f): f.value for f in thresholds.lookup(found, "a", cls)} for cls in ("cpu", "rtx4090", "h200")}
    assert values == {
        "cpu": {"call: x b": 7},
        "rtx4090": {"call: us": 20, "call: x b": 2},
        "h200": {"call: us": 10, "call: x b": 2},
    }
    with pytest.raises(KeyError, match="no threshold of 'b' on cpu"):
        thresholds.lookup(found, "b", "cpu")


# Recorder


class Clock:
    """Stands in for the timer: one median a round of measurement, of ours; the other variant takes 10 ms."""

    def __init__(self, *milliseconds):
        self.left = list(milliseconds)
        self.asked = 0

    def __call__(self, variants, *, warm=False):
        return self

    def times(self, rounds):
        self.asked += 1
        ours = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return {"call": {"fastvid": summary([ours], "wall clock"), "other": summary([10.0], "wall clock")}}

    def facts(self):
        return {}


def measured(monkeypatch, clock, text='[a.cpu]\n"call: x other" = {at_least = 2, SOURCE}', **arguments):
    monkeypatch.setattr(recorder, "CpuTimer", clock)
    found = Recorder(CPU, table(text), copy_bandwidth=1e9)
    return found.measure("a", {"fastvid": lambda: None, "other": lambda: None}, **arguments)


def test_rates_and_ratios_of_a_measurement(monkeypatch):
    (row,) = measured(monkeypatch, Clock(4.0), least_bytes=1_000_000)
    assert row["metrics"] == {
        "x other": 2.5,
        "us": 4000.0,
        "GB/s": pytest.approx(0.25),
        "share of copy": pytest.approx(0.25),
    }
    assert not recorder.missed([row])


def test_a_threshold_is_missed_after_five_attempts_and_not_after_four(monkeypatch):
    clock = Clock(9.0, 9.0, 9.0, 9.0, 4.0)
    assert not recorder.missed(measured(monkeypatch, clock))
    assert clock.asked == 5
    clock = Clock(9.0, 9.0, 9.0, 9.0, 8.0, 4.0)
    assert recorder.missed(measured(monkeypatch, clock)) == ["a, call: x other is 1.25, the threshold is 2"]
    assert clock.asked == 5


def test_a_limit_is_missed_from_above(monkeypatch):
    rows = measured(monkeypatch, Clock(4.0), '[a.cpu]\n"call: us" = {at_most = 20, SOURCE}')
    assert recorder.missed(rows) == ["a, call: us is 4e+03, the threshold is 20"]


def test_nothing_is_timed_behind_a_red_gate(monkeypatch):
    def red():
        raise AssertionError("they differ")

    clock = Clock(4.0)
    with pytest.raises(AssertionError, match="they differ"):
        measured(monkeypatch, clock, gate=red)
    assert clock.asked == 0


def test_a_run_that_only_compiles_checks_and_calls_each_variant_and_times_nothing(monkeypatch):
    called = []
    clock = Clock(4.0)
    monkeypatch.setattr(recorder, "CpuTimer", clock)
    found = Recorder(CPU, {}, copy_bandwidth=1e9)
    x = torch.tensor([1.0, 2.0], requires_grad=True)

    def variant(name):
        def forward():
            called.append(name)
            return (x * x).sum()

        return Variant(forward, [x])

    found.warm(
        "a", {"fastvid": variant("ours"), "other": variant("theirs")}, gate=lambda: called.append("gate"), rounds=5
    )
    assert called == ["gate", "ours", "theirs"]
    assert clock.asked == 0
    assert not found.rows


def test_numbers_that_are_no_times_have_thresholds_too():
    text = '[a.cpu]\n"call: memory of other" = {at_most = 0.6, SOURCE}'
    found = Recorder(CPU, table(text), copy_bandwidth=1e9)
    (row,) = found.keep("a", {"memory of other": 0.7})
    assert recorder.missed([row]) == ["a, call: memory of other is 0.7, the threshold is 0.6"]
    assert found.rows == [row]
    assert "memory of other 0.7 (at most 0.6)" in recorder.line(row)
    shown = report.table({"device": {"kind": "cpu"}, "rows": [row]})
    assert "| a |  |  |  | 0.70 of the memory of other (<= 0.6, missed) |" in shown
    with pytest.raises(ValueError, match="its numbers are share"):
        found.keep("a", {"share": 0.5})


def test_results_that_differ_close_the_gate():
    x = torch.tensor([1.0, 2.0], requires_grad=True)

    def gate(forward, tolerance):
        recorder.agree("a", {"fastvid": Variant(forward, [x]), "other": Variant(lambda: (x * x).sum(), [x])}, tolerance)

    gate(lambda: (x**2).sum(), 0)
    with pytest.raises(AssertionError, match=r"output of fastvid is off by 0\.5 from other"):
        gate(lambda: (x**2).sum() + 0.5, 1e-3)
    with pytest.raises(AssertionError, match="gradient 1 of fastvid is off by 3 "):
        gate(lambda: (x**2).sum() + 3 * (x - x.detach()).sum(), 1e-3)
    with pytest.raises(AssertionError, match="off by nan"):
        gate(lambda: (x**2).sum() * float("nan"), 1e-3)


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        ('[b.cpu]\n"call: x other" = {at_least = 2, SOURCE}', {}, "no threshold of 'a' on cpu"),
        ('[a.cpu]\n"call: x another" = {at_least = 2, SOURCE}', {}, "its variants are fastvid, other"),
        ('[a.cpu]\n"forward: us" = {at_most = 2, SOURCE}', {}, "its parts are call"),
        ('[a.cpu]\n"call: share of copy" = {at_least = 0.5, SOURCE}', {}, "least_bytes does not say"),
        ('[a.cpu]\n"call: us" = {at_most = 2, SOURCE}', {"thresholds": {"other": 2}}, "keep one of them"),
        ("", {"thresholds": {}}, "guards nothing"),
    ],
)
def test_a_benchmark_that_guards_nothing_is_an_error(monkeypatch, text, arguments, sentence):
    with pytest.raises((ValueError, KeyError), match=sentence):
        measured(monkeypatch, Clock(1.0), text, **arguments)


def test_a_share_of_the_bandwidth_needs_more_than_the_cache():
    found = Recorder(H200, table('[a.gpu]\n"call: share of copy" = {at_least = 0.8, SOURCE}'), 4e12)
    with pytest.raises(ValueError, match="needs 8 times the L2 cache"):
        found.measure("a", {"fastvid": lambda: None}, least_bytes=100 << 20)


def test_passes_apart_need_a_gate():
    found = Recorder(CPU, {}, 1e9)
    with pytest.raises(ValueError, match="gate= or tolerance="):
        found.measure("a", {"fastvid": Variant(lambda: None), "b": Variant(lambda: None)}, thresholds={"b": 1})


# Report


@pytest.fixture
def run(monkeypatch):
    """What pytest-benchmark writes of one benchmark on a card."""
    found = Recorder(H200, table('[a.gpu]\n"call: x other" = {at_least = 2, SOURCE}'), 4.4e12)
    monkeypatch.setattr(recorder, "GpuTimer", Clock(0.4))
    rows = found.measure("a", {"fastvid": lambda: None, "other": lambda: None}, least_bytes=1_600_000_000)
    facts = {**devices.describe(CPU), **{"kind": "cuda", "cls": "h200", "name": "NVIDIA H200", "slug": "nvidia-h200"}}
    facts.update(l2_bytes=H200.l2_bytes, datasheet_gb_per_s=4800, copy_gb_per_s=4400.0, load_before=0.2, driver="9")
    return {"benchmarks": [{"extra_info": {"rows": rows, "device": facts}}], "commit_info": {"id": "abc"}}


def test_a_run_becomes_a_result_a_table_and_a_plot(run, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n" + "".join(f"<!-- {n} -->\n<!-- end of {n} -->\n" for n in ("results",)))
    (tmp_path / "run.json").write_text(json.dumps(run))
    report.main(["--json", str(tmp_path / "run.json"), "--results", str(tmp_path / "results"), "--docs", str(page)])
    kept = json.loads((tmp_path / "results" / "nvidia-h200.json").read_text())
    assert kept["rows"][0]["metrics"]["share of copy"] == 0.9091
    assert kept["conditions"] == "load average 0.2 at the start"
    printed = capsys.readouterr().out
    assert "| a | 0.40 ms | 4000 | 91 % | 83 % | 25.0x other (2) |" in printed
    assert printed.strip() in page.read_text()
    assert page.read_text().startswith("before\n")
    pytest.importorskip("matplotlib")
    assert (tmp_path / "results" / "roofline.png").read_bytes()[1:4] == b"PNG"


def test_a_busy_machine_is_named(run):
    run["benchmarks"][0]["extra_info"]["device"]["load_before"] = 3.5
    assert report.result(run)["conditions"] == "other work ran beside it: load average 3.5 at the start"


def test_results_of_two_devices_do_not_mix(run):
    other = json.loads(json.dumps(run["benchmarks"][0]))
    other["extra_info"]["device"]["slug"] = "another"
    run["benchmarks"].append(other)
    with pytest.raises(ValueError, match="found another, nvidia-h200"):
        report.result(run)


def test_a_page_without_its_comments_is_refused():
    with pytest.raises(ValueError, match="one pair of comments"):
        report.put("nothing here", "results", "text")


def test_cards_that_were_not_measured_are_drawn_hollow(run):
    found = table('["b, large".gpu]\n"forward: share of copy" = {at_least = 0.85, SOURCE}')
    shown = roofline.panels([report.result(run)], found)
    assert [panel.title for panel in shown] == ["NVIDIA H200", "RTX 4090 (not measured)", "RTX 5090 (not measured)"]
    assert [(p.op, p.measured, round(p.gb_per_s)) for p in shown[0].points] == [("a", True, 4000)]
    assert [(p.op, p.measured, round(p.gb_per_s, 1)) for p in shown[1].points] == [("b, large fwd", False, 856.8)]


def test_the_docs_show_the_results_there_are():
    page = (report.ROOT / "docs" / "benchmarks.md").read_text()
    for name, text in report.blocks(report.load(report.RESULTS)).items():
        assert report.put(page, name, text) == page, f"{name}: run python -m benchmarks.report"
