"""Write a tiny Llama with random weights as a GGUF file: real llama.cpp, no knowledge.

Its tokeniser is byte-level with a few merges, so that any text has tokens and token
borders are not always letter borders. The chat template marks roles by control tokens.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}<sys>{% elif m.role == 'user' %}<user>{% else %}<asst>{% endif %}{{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %}<asst>{% endif %}"
)
SPECIALS = ("<unk>", "<bos>", "<eos>", "<sys>", "<user>", "<asst>")
MERGES = ("h e", "l l", "Ġ t")
WINDOW = 512


def write_random_gguf(
    path: Path,
    *,
    seed: int = 0,
    width: int = 32,
    layers: int = 2,
    heads: int = 4,
    window: int = WINDOW,
    chat_template: str = CHAT_TEMPLATE,
) -> Path:
    """Write a model of about 40,000 weights drawn with *seed*."""
    draw = np.random.default_rng(seed)
    tokens = [*SPECIALS, *_byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    normal = len(tokens) - len(SPECIALS)
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * (len(SPECIALS) - 1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(window)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([*kinds, *([gguf.TokenType.NORMAL] * normal)])
    writer.add_token_merges(list(MERGES))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(chat_template)

    def matrix(name: str, rows: int, columns: int, scale: float) -> None:
        writer.add_tensor(name, (draw.standard_normal((rows, columns)) * scale).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    matrix("token_embd.weight", len(tokens), width, 1.0)
    head = draw.standard_normal((len(tokens), width)) * 0.5
    # Control tokens and stray bytes would make replies end at once, or be no text; printable letters go on.
    plain = [n for n, token in enumerate(tokens) if len(token) == 1 and token.isascii() and n >= len(SPECIALS)]
    direction = draw.standard_normal(width)
    head[[n for n in range(len(tokens)) if n not in plain]] *= 0.05
    head[plain] += 0.02 * direction
    writer.add_tensor("output.weight", head.astype(np.float32))
    ones("output_norm.weight")
    for layer in range(layers):
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{part}.weight", width, width, width**-0.5)
        matrix(f"blk.{layer}.ffn_gate.weight", 2 * width, width, width**-0.5)
        matrix(f"blk.{layer}.ffn_up.weight", 2 * width, width, width**-0.5)
        matrix(f"blk.{layer}.ffn_down.weight", width, 2 * width, width**-0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes in byte-level vocabularies, in order of the bytes."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]
