"""What docs/gpu.md says of cards, against numbers worked out by hand."""

import pytest

from benchmarks import report
from benchmarks.harness import predictions
from benchmarks.harness.predictions import CARDS, OPS, Card, Op


def row(table, start):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {start}")]
    return line


def test_the_page_shows_the_tables_as_they_are():
    assert predictions.page(report.load(report.RESULTS)) == predictions.PAGE.read_text(), (
        "run python -m benchmarks.harness.predictions --write"
    )


def test_ops_take_their_bytes_over_the_bandwidth():
    assert predictions.least_microseconds(1_008_000, 1008) == 1.0
    # 42.5 MB of glimpses at 4800 GB/s are 8.8 microseconds, and 8 x 16 x 4 fixations 6 KB.
    assert row(predictions.ops(), "foveated_glimpse, B8 T16 G4 96x96").endswith("| 13 us | 9 us | 42 us | 24 us |")


def test_arithmetic_is_the_bound_above_the_ridge():
    card = Card("a card", "NVIDIA H200", tensor=1000, vector=48, source="a test")
    assert card.ridge == pytest.approx(10)  # 48 TFLOP/s over 4.8 TB/s
    assert predictions._least(Op("below", 4_800_000_000, 47_000_000_000), card) == "1000 us"
    assert predictions._least(Op("above", 4_800_000_000, 96_000_000_000), card) == "2000 us, arithmetic"


def test_one_query_is_bound_by_memory_and_sixteen_have_sixteen_times_the_operations():
    one, sixteen = ([op for op in OPS if op.name.endswith(end)] for end in ("1 query", "16 queries"))
    # Two products of 2 x 257 x 64 operations for each of 128 x 12 heads.
    assert one[0].operations == 128 * 12 * 2 * 2 * 257 * 64
    assert [16 * op.operations for op in one] == [op.operations for op in sixteen]
    assert all(op.intensity < card.ridge for op in one for card in CARDS)


def test_a_step_takes_its_products_over_the_tensor_cores_rate():
    # 32 clips of 643.37 GFLOP at 165.2 TFLOP/s.
    assert "124.6 ms, 257 clips/s" in row(predictions.steps(), "recommended")
    # A clip: 1568 indices and an id; 392 and 1568 tubelets of 1536 bytes read, twice that written, and an index each;
    # 1176 rows of 768 numbers of two bytes, three times forward with an index and twice backward.
    masks, tubelets = 8 * (1 + 1568), (392 + 1568) * (1536 + 3072 + 8)
    loss = 1176 * (3 * 1536 + 8) + 1176 * 2 * 1536
    assert predictions.step_bytes(32) == 32 * (masks + tubelets + loss) + 2 * 4


def test_measured_cards_are_shown_beside_the_least_time():
    found = {
        "device": {
            "name": "NVIDIA H200", "kind": "cuda", "datasheet_gb_per_s": 4800, "date": "2030-01-02", "torch": "2.15",
            "triton": "3.9", "driver": "600", "copy_gb_per_s": 4200.0,
        },
        "conditions": "idle",
        "rows": [
            {"benchmark": "an op", "part": "forward", "least_bytes": 48_000_000, "metrics": {"us": 20.0}},
            {"benchmark": "masks", "part": "forward", "least_bytes": None, "metrics": {"us": 3.0}},
        ],
    }  # fmt: skip
    shown = predictions.measured([found])
    assert shown.startswith("NVIDIA H200, 2030-01-02, torch 2.15, triton 3.9, driver 600")
    assert row(shown, "an op") == "| an op, forward | 10 us | 20 us | 50 % |"
    assert "masks" not in shown
    assert predictions.measured([]).startswith("Nothing")
