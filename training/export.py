"""Write a checkpoint as GGUF, with its vocabulary and chat template: `python -m training.export`.

The file is an ordinary `llama` with a `rwkv` vocabulary (greedy longest match over
bytes); llama.cpp needs nothing special to run it.

This file knows nothing about training.
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np

from training import tokenizer
from training.model import TinyModel, frequencies
from training.train import load

ROPE_BASE = 10000.0
CHAT_TEMPLATE = (
    "{%- set state = namespace(open=false) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{%- set state.open = false -%}"
    "{%- else -%}"
    "{{ ('\n' if state.open else '<|user|>') + message['content'] }}"
    "{%- set state.open = true -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
"""Whoever is not the assistant speaks as the user; a system message is its first lines."""

SIDE_BY_SIDE = {
    "attention_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
WHOLE = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}


def export(net: TinyModel, path: Path, *, description: str, quantised: bool = False) -> str:
    """Write *net* to *path* and return its sha256."""
    shape = net.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("sleeptime-tiny")
    writer.add_description(description)
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.window)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    _add_vocabulary(writer, shape.vocabulary)
    writer.add_tensor("rope_freqs.weight", _rope_factors(net))
    for name, tensor in net.state_dict().items():
        array = tensor.detach().float().numpy()
        if array.ndim == 1:
            writer.add_tensor(_gguf_name(name), array)
        elif quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(_gguf_name(name), gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_gguf_name(name), array.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rope_factors(net: TinyModel) -> np.ndarray:
    """Give what llama.cpp divides its own rotary frequencies by to arrive at ours."""
    ours = frequencies(net.shape).numpy()
    theirs = ROPE_BASE ** (-np.arange(len(ours)) / len(ours))
    return (theirs / np.maximum(ours, 1e-12)).astype(np.float32)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Write the pieces in the escaped form that llama.cpp's `rwkv` vocabulary reads."""
    tokens: list[bytes] = []
    types: list[int] = []
    used = len(tokenizer.CONTROL) + len(tokenizer.PIECES)
    for token in range(size):
        raw = tokenizer.token_bytes(token)
        if token < len(tokenizer.CONTROL):
            tokens.append(raw)
            types.append(gguf.TokenType.CONTROL)
        elif token < used:
            tokens.append(_escaped(raw))
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(raw)
            types.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_eos_token_id(tokenizer.END_ID)
    writer.add_eot_token_id(tokenizer.END_ID)
    writer.add_pad_token_id(tokenizer.END_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _escaped(raw: bytes) -> bytes:
    return "".join(chr(byte) if 32 <= byte < 127 and byte != ord("\\") else f"\\x{byte:02x}" for byte in raw).encode()


def _gguf_name(name: str) -> str:
    """Translate `blocks.0.q.weight` to `blk.0.attn_q.weight`."""
    parts = name.split(".")
    if parts[0] == "blocks":
        return ".".join(["blk", parts[1], SIDE_BY_SIDE[parts[2]], *parts[3:]])
    return ".".join([WHOLE[parts[0]], *parts[1:]])


def main() -> None:
    """Read the command line, export, and write the sha256 and the model card beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("training/runs/tiny.pt"))
    parser.add_argument("--out", type=Path, default=Path("src/sleeptime/data/tiny.gguf"))
    parser.add_argument("--commit", default="unknown", help="commit of the recipe")
    parser.add_argument("--machine", default="unknown")
    parser.add_argument("--families", default="sheets")
    parser.add_argument("--quantised", action="store_true")
    arguments = parser.parse_args()
    net, facts = load(arguments.checkpoint)
    card = {
        "name": "sleeptime-tiny",
        "license": "Apache-2.0",
        "architecture": "llama",
        "parameters": sum(p.numel() for p in net.parameters()),
        "shape": {
            "width": net.shape.width,
            "layers": net.shape.layers,
            "heads": net.shape.heads,
            "feed_forward": net.shape.feed_forward,
            "vocabulary": net.shape.vocabulary,
            "window": net.shape.window,
        },
        "training": {
            "steps": facts["step"],
            "tokens": facts["tokens"],
            "seed": facts["seed"],
            "machine": arguments.machine,
            "commit": arguments.commit,
        },
        "families": arguments.families.split(","),
        "weights": "q8_0" if arguments.quantised else "f16",
    }
    description = f"Stateful Chains, {facts['step']} steps"
    card["sha256"] = export(net, arguments.out, description=description, quantised=arguments.quantised)
    name = arguments.out.name
    arguments.out.with_suffix(".sha256").write_text(f"{card['sha256']}  {name}\n")
    arguments.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card))


if __name__ == "__main__":
    main()
