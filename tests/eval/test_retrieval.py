import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastvid.command import UserError
from fastvid.data import open_source
from fastvid.eval.accuracy import wilson_interval
from fastvid.eval.features import Features
from fastvid.eval.knn import standardise
from fastvid.eval.relations import read_captions, read_relations
from fastvid.eval.retrieval import label_retrieval, pair_retrieval, recalls, text_retrieval
from tests.data.test_sources import make_folder


def test_recalls_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])
    relevant = torch.tensor([[False, True, False], [False, False, True], [True, False, False]])
    found = recalls(similarity, relevant, (1, 2, 3))
    assert [found[k][0].correct for k in (1, 2, 3)] == [1, 2, 3]  # equally similar items rank before the relevant one
    assert [round(found[k][1], 6) for k in (1, 2, 3)] == [round(k / 3, 6) for k in (1, 2, 3)]
    with pytest.raises(ValueError, match="at least one query"):
        recalls(similarity[:0], relevant[:0])


def test_chance_is_that_of_a_random_order():
    torch.manual_seed(0)
    similarity = torch.rand(4000, 12)
    relevant = torch.arange(12).expand(4000, -1) < 3
    for found, chance in recalls(similarity, relevant, (1, 5)).values():
        assert found.value == pytest.approx(chance, abs=0.03)
    assert recalls(similarity, relevant, (5,))[5][1] == pytest.approx(1 - math.comb(9, 5) / math.comb(12, 5))


def test_what_is_not_in_the_gallery_is_never_found():
    similarity = torch.tensor([[-math.inf, 0.2, 0.1]])
    found, chance = recalls(similarity, torch.tensor([[True, False, True]]), (1,))[1]
    assert (found.correct, chance) == (0, 0.5)


def features(values: torch.Tensor, labels: torch.Tensor, views: int = 1) -> Features:
    keys = [f"{i}.mp4" for i in range(len(labels))]
    return Features(values, torch.empty(0, 0, 0), labels, views, keys, torch.zeros_like(labels))


def clusters(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % 4
    centres = torch.randn(4, 16, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 0.1 * torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), labels


def test_videos_of_a_label_find_each_other():
    train, test = features(*clusters(40, 0)), features(*clusters(20, 1))
    found = label_retrieval(train, test)
    assert [found[k][0].value for k in (1, 5, 10)] == [1, 1, 1]
    assert found[1][1] == pytest.approx(0.25)
    noise = features(torch.randn(20, 16, generator=torch.Generator().manual_seed(3)), test.labels)
    assert label_retrieval(train, noise)[1][0].value < 0.6
    several = features(test.pooled.repeat_interleave(3, 0), test.labels, views=3)
    assert label_retrieval(train, several) == found


def test_pairs_find_each_other_and_not_themselves():
    values, labels = clusters(8, 0)
    train, test = features(*clusters(40, 1)), features(values, labels)
    groups = ["a", "b", "c", "d", "a", "b", "c", None]
    found, chance = pair_retrieval(train, test, groups)[1]
    assert (found.correct, found.total) == (6, 6)  # d is alone, and one has no id: both are in the gallery only
    assert chance == pytest.approx(1 / 7)
    assert found.interval == wilson_interval(3, 3)  # two cuts of a scene answer for each other: three scenes were asked
    with pytest.raises(UserError, match="no two of the test videos have the same id"):
        pair_retrieval(train, test, [None] * 8)


@pytest.mark.parametrize("wide", [4, 256])  # more videos than dimensions, and fewer
def test_captions_are_found_through_a_ridge_regression(wide):
    g = torch.Generator().manual_seed(0)
    meaning = torch.randn(220, 4, generator=g)
    seen, said = torch.randn(4, wide, generator=g), torch.randn(4, 12, generator=g)
    texts = F.normalize(meaning @ said, dim=1)
    none = torch.zeros(220, dtype=torch.int64)
    every = features(meaning @ seen + 0.01 * torch.randn(220, wide, generator=g), none)
    train, test = every.select(torch.arange(200)), every.select(torch.arange(200, 220))
    found = text_retrieval(train, test, texts[:200], texts[200:])
    assert found["text to video"][1][0].value >= 0.9
    assert found["video to text"][1][0].value >= 0.9
    assert found["text to video"][1][1] == pytest.approx(1 / 20)
    shuffled = text_retrieval(train, test, texts[:200], texts[torch.randperm(20, generator=g) + 200])
    assert shuffled["text to video"][1][0].value < 0.5


def test_equal_captions_are_one_query():
    values, labels = clusters(12, 0)
    texts = F.one_hot(labels).float()
    found = text_retrieval(
        features(*clusters(40, 1)), features(values, labels), F.one_hot(clusters(40, 1)[1]).float(), texts
    )
    assert found["text to video"][1][0].total == 4
    assert found["video to text"][1][0].total == 12
    assert found["video to text"][1][0].value == 1


def test_relations_are_read_from_files(tmp_path):
    make_folder(tmp_path / "videos", ["a/1.mp4", "b/2.mp4"])
    (tmp_path / "pairs.csv").write_text("path,label\na/1.mp4,x\nb/2.mp4,x\n")
    embeddings = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.savez(tmp_path / "texts.npz", keys=np.array(["a/1.mp4", "b/2.mp4"]), features=embeddings)
    root = tmp_path / "videos"
    found = read_relations(open_source(root), root, tmp_path / "pairs.csv", tmp_path / "texts.npz")
    assert found.groups == {"a/1.mp4": "x", "b/2.mp4": "x"}
    assert {key: value.tolist() for key, value in found.captions.items()} == {
        "a/1.mp4": [0, 1, 2],
        "b/2.mp4": [3, 4, 5],
    }
    assert not read_relations(open_source(root), root, None, None).known


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"keys": np.array(["a"])}, "the arrays keys"),
        ({"keys": np.array(["a"]), "features": np.zeros((2, 3), np.float32)}, r"features \(2, 3\)"),
        ({"keys": np.array([1]), "features": np.zeros((1, 3), np.float32)}, "has keys int64"),
        ({"keys": np.array(["a"]), "features": np.full((1, 3), np.nan)}, "finite"),
        ({"keys": np.array(["a"]), "features": np.zeros((1, 3), np.int64)}, "floating-point"),
        ({"keys": np.array(["a", "a"]), "features": np.zeros((2, 3))}, "has 'a' more than once"),
        ({"keys": np.array(["a", None], object), "features": np.zeros((2, 3))}, "cannot be read"),
    ],
)  # fmt: skip
def test_other_embeddings_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_captions(tmp_path / "x.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="cannot be read"):
        read_captions(tmp_path / "x.npz")
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(ValueError, match="cannot be read"):
        read_captions(tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_captions(tmp_path / "z.npz")


def test_a_single_training_video_is_no_nan():
    train, test = standardise(torch.ones(1, 3), torch.tensor([[1.0, 2.0, 4.0]]))
    assert train.tolist() == [[0.0, 0.0, 0.0]]
    assert test.tolist() == [[0.0, 1.0, 3.0]]
