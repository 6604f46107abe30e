"""Exported models in this process, and what the models that they were made of say."""

import torch

from fastvid.data import ChatFormat
from fastvid.projects.fvlm.export import export, said
from fastvid.projects.fvlm.hf.modeling_fvlm import FoveatedVLMForConditionalGeneration
from fastvid.projects.fvlm.hf.processing_fvlm import FoveatedVLMProcessor
from tests.projects.fvlm.trained import SIZE

MODES = ("coarse", "parallel", "stream")


def opened(model, folder):
    """The exported model and its processor, by their own classes."""
    export(model, folder)
    processor = FoveatedVLMProcessor.from_pretrained(folder, trust_remote_code=True)
    return FoveatedVLMForConditionalGeneration.from_pretrained(folder).eval(), processor


def asked(question, kind="video", **source):
    return [{"role": "user", "content": [{"type": kind, **source}, {"type": "text", "text": question}]}]


def rendered(processor, question, kind="video"):
    return processor.apply_chat_template(asked(question, kind), add_generation_prompt=True, tokenize=False)


def clip(frames, seed=0):
    return torch.randint(256, (frames, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def logits_of(model, clip, question, mode):
    before, after = ChatFormat(model.tokenizer, model.model.config.layout).prompt(question)
    return said(model.model, clip, before, after, mode)
