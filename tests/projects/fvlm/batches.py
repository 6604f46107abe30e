"""Small batches with texts of unequal lengths, padded frames and places without a question."""

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.tiny import tiny_model

END, VOCABULARY, SIZE, PATCHES = 3, 20, 32, 4

CONFIG = ModelConfig(init="tiny", tiny_width=16, tiny_heads=2, tiny_layers=2)


def tiny(**options):
    return tiny_model(ModelConfig(**{**vars(CONFIG), **options}), VOCABULARY, SIZE).eval()


def exact(**options):
    """A tiny model in float64 throughout: Llama's own norm would round to float32."""
    model = tiny(**options)
    for module in list(model.language.model.modules()):
        for name, norm in list(module.named_children()):
            if type(norm).__name__ == "LlamaRMSNorm":
                same = nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon)
                same.weight = norm.weight
                setattr(module, name, same)
    return model.double()


def rows(lists, *, left):
    """Pad lists of ids: int64 ids and bool masks [n, most]."""
    most = max(map(len, lists))
    ids, mask = torch.zeros(len(lists), most, dtype=torch.int64), torch.zeros(len(lists), most, dtype=torch.bool)
    for row, found in enumerate(lists):
        place = slice(most - len(found), most) if left else slice(0, len(found))
        ids[row, place], mask[row, place] = torch.tensor(found), True
    return ids, mask


def batch(asked=((5, 6), (7, 8, 9), (5,)), prompt=(1, 2), answers=((10, 11), (12,), (13, 14, 15)), clips=(2, 1)):
    """A batch of ``len(clips)`` clips of 3 frames, the last clip with 2, with so many questions each."""
    C, S, T = len(clips), max(clips), 3
    random = torch.Generator().manual_seed(0)
    places = [(clip, number) for clip, count in enumerate(clips) for number in range(count)]
    before, before_mask = rows(asked, left=True)
    texts = [[*prompt, *answer, END] for answer in answers]
    after, after_mask = rows(texts, left=False)
    labels = torch.full_like(after, -100)
    for row, text in enumerate(texts):
        labels[row, len(prompt) : len(text)] = torch.tensor(text[len(prompt) :])

    def spread(x, fill=0):
        whole = x.new_full((C, S, *x.shape[1:]), fill)
        for row, place in enumerate(places):
            whole[place] = x[row]
        return whole

    frames = torch.ones(C, T, dtype=torch.bool)
    frames[-1, -1] = False
    truth = torch.randint(PATCHES, (len(places), T), generator=random)
    extra = {
        "frames": frames, "questions": spread(torch.ones(len(places), dtype=torch.bool), False),
        "before": spread(before), "before_mask": spread(before_mask, False), "after": spread(after),
        "after_mask": spread(after_mask, False), "labels": spread(labels, -100), "truth": spread(truth, -1),
    }  # fmt: skip
    pixels = torch.randint(256, (C, T, SIZE, SIZE, 3), generator=random, dtype=torch.uint8)
    ids = torch.arange(C)
    return Batch(keys=[f"clip {i}" for i in range(C)], ids=ids, view_hashes=ids, clips=pixels, extra=extra)
