"""The tiny model: a small Llama whose first layer starts out looking back.

Exactly the graph that llama.cpp calls `llama`: RMSNorm, rotary positions on
neighbouring pairs, SwiGLU, an untied head, biases on q and k.

To look something up, a transformer first has to know which token stands just before
another, then to match it. Small ones learn that late. So the start is prepared:
heads of layer 0 have biases whose rotary score peaks one, two and three tokens back;
heads of layer 1 compare a token with what those heads wrote, and copy; the tokens of one
name share a direction. All are starting points alone: training may move them.

Only the first pairs of a head turn with position (`rope_freqs` in the exported file says
so); the others match content at any distance.

This file knows nothing about data or files.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import tokenizer

MARKS = ((-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (0.0, 0.0))
"""Two numbers for each kind of name token: `\nC4=`, `\nC4:`, ` C4`, `\nC4 is`."""


PAIR_OFFSETS = (4, 6)
"""From `plus=` back to the second and the first name of a question, in either family."""
PAIR_GAIN = 6.0
"""By layer 2 the stream has grown about fivefold; what the heads write must be heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes. `look_backs` lists the offsets of the first heads of layer 0."""

    width: int = 128
    layers: int = 5
    heads: int = 4
    feed_forward: int = 320
    vocabulary: int = tokenizer.VOCABULARY_SIZE
    turning: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)
    window: int = 2048
    epsilon: float = 1e-5
    look_backs: tuple[int, ...] = (1, 2, 3)
    look_back_gap: float = 5.0
    look_up_gap: float = 8.0
    name_code: int = 20
    mark: float = 1.0
    mark_gain: float = 6.0

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class Block(nn.Module):
    """Attention and a gated feed-forward, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.q = nn.Linear(shape.width, shape.width)
        self.k = nn.Linear(shape.width, shape.width)
        self.v = nn.Linear(shape.width, shape.width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Add what attention and feed-forward see to the stream."""
        batch, length, width = x.shape
        h = self.attention_norm(x)
        q, k, v = (layer(h).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, rotation), rotate(k, rotation)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.output(seen.transpose(1, 2).reshape(batch, length, width))
        h = self.feed_forward_norm(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class TinyModel(nn.Module):
    """Tokens, positions and an additive mask in; the stream before the head out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        angles = torch.arange(shape.window)[:, None] * frequencies(shape)[None, :]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.initialise()

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Run the blocks; apply `head` to the positions wanted."""
        x = self.embedding(tokens)
        rotation = (self.cos[positions][:, None], self.sin[positions][:, None])
        for block in self.blocks:
            x = block(x, rotation, mask)
        return self.norm(x)

    @torch.no_grad()
    def initialise(self) -> None:
        """Start healthy: scaled weights, then the prepared embeddings and heads."""
        shape = self.shape
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            block.output.weight.mul_((2 * shape.layers) ** -0.5)
            block.down.weight.mul_((2 * shape.layers) ** -0.5)
        self._embed()
        self._look_back()
        self._look_up()

    def _room(self, offset: int) -> slice:
        """Give the part of the stream that holds the name of the token *offset* back."""
        return slice(offset * self.shape.name_code, (offset + 1) * self.shape.name_code)

    def _own(self) -> slice:
        """Give the part of the stream that holds what a token is beside a name."""
        return slice((len(self.shape.look_backs) + 1) * self.shape.name_code, self.shape.width)

    def _embed(self) -> None:
        """Write a name and a kind side by side; other tokens have a kind alone."""
        weight = nn.init.normal_(self.embedding.weight, std=0.05)
        own = self._own()
        weight[:, own] = torch.randn(weight[:, own].shape) * 0.7
        groups = tokenizer.name_groups()
        kinds = torch.randn(len(groups[0]), own.stop - own.start) * 0.7
        marks = torch.tensor(MARKS) * self.shape.mark
        for group in groups:
            name = torch.randn(self.shape.name_code) * 0.7
            weight[group, self._room(0)] = name
            weight[group, self._room(0).stop - marks.shape[1] : self._room(0).stop] = marks
            weight[group, own] = 0.3 * weight[group, own] + 0.95 * kinds
        self.head.weight.copy_(weight * 1.4 * self.shape.width**-0.5)

    def _look_back(self) -> None:
        """Make the first heads of layer 0 see the token a fixed number of places back.

        They write its name to a room of its own, and some of the rest where kinds are.
        """
        shape, first, size = self.shape, self.blocks[0], self.shape.head_width
        turning = torch.tensor(shape.turning)
        amplitude = math.sqrt(shape.look_back_gap * math.sqrt(size) / (1 - turning.cos()).sum())
        own = self._own()
        for head, offset in enumerate(shape.look_backs):
            rows = slice(head * size, (head + 1) * size)
            named = slice(head * size, head * size + shape.name_code)
            rest = slice(named.stop, rows.stop)
            first.q.weight[rows] *= 0.05
            first.k.weight[rows] *= 0.05
            for pair, frequency in enumerate(shape.turning):
                at = head * size + 2 * pair
                first.q.bias[at] = amplitude * math.cos(offset * frequency)
                first.q.bias[at + 1] = -amplitude * math.sin(offset * frequency)
                first.k.bias[at] = amplitude
            first.v.weight[rows] *= 0.05
            first.output.weight[:, rows] *= 0.05
            first.v.weight[named, self._room(0)] += torch.eye(shape.name_code)
            first.output.weight[self._room(head + 1), named] += 0.5 * torch.eye(shape.name_code)
            part = _orthogonal(rest.stop - rest.start, own.stop - own.start)
            first.v.weight[rest, own] += part
            first.output.weight[own, rest] += 0.6 * _orthogonal(*part.shape).T

    def _look_up(self) -> None:
        """Make heads of layer 1 find the token that follows this token's name, and copy it.

        The last head goes the other way: from the name one back to where it stands.
        """
        shape, size, second = self.shape, self.shape.head_width, self.blocks[1]
        still = size - 2 * len(shape.turning)
        scale = math.sqrt(shape.look_up_gap * math.sqrt(size) / shape.name_code)
        own = self._own()
        for head in range(min(shape.heads, len(shape.look_backs) + 1)):
            forwards = head < len(shape.look_backs)
            here, there = self._room(0), self._room(head + 1 if forwards else 1)
            asks, offers = (here, there) if forwards else (there, here)
            rows = slice((head + 1) * size - still, (head + 1) * size)
            mix = _orthogonal(still, shape.name_code) * scale
            for layer, room in ((second.q, asks), (second.k, offers)):
                layer.weight[head * size : (head + 1) * size] *= 0.2
                layer.weight[rows, room] += mix
            wanted = torch.zeros(shape.name_code)
            wanted[-2:] = torch.tensor(((0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (-1.0, -1.0))[head])
            second.q.bias[rows] = mix @ wanted * shape.mark_gain
            rows = slice(head * size, (head + 1) * size)
            copied = torch.zeros(size, shape.width)
            copied[:12, here] = _orthogonal(12, shape.name_code)
            copied[12:, own] = _orthogonal(size - 12, own.stop - own.start)
            second.v.weight[rows] = copied
            second.output.weight[:, rows] = copied.T * 0.6

    @torch.no_grad()
    def prepare_pairs(self) -> None:
        """Re-make three idle heads of layer 2, which an ablation found to do nothing.

        From `plus=` two of them see the two names of the question, four and six places
        back, where layer 1 has already put their values. The third goes from a name just
        written to what stands after it in the watch line.
        """
        shape, size, block = self.shape, self.shape.head_width, self.blocks[2]
        turning = torch.tensor(shape.turning)
        amplitude = math.sqrt(shape.look_back_gap * math.sqrt(size) / (1 - turning.cos()).sum())
        rows = slice(0, 3 * size)
        for layer in (block.q, block.k):
            layer.weight[rows] = torch.randn(3 * size, shape.width) * 0.05 * shape.width**-0.5
            layer.bias[rows] = 0
        block.v.weight[rows] = torch.randn(3 * size, shape.width) * shape.width**-0.5
        block.output.weight[:, rows] = torch.randn(shape.width, 3 * size) * shape.width**-0.5
        block.output.weight[:, : 2 * size] *= PAIR_GAIN
        for head, offset in enumerate(PAIR_OFFSETS):
            for pair, frequency in enumerate(shape.turning):
                at = head * size + 2 * pair
                block.q.bias[at] = amplitude * math.cos(offset * frequency)
                block.q.bias[at + 1] = -amplitude * math.sin(offset * frequency)
                block.k.bias[at] = amplitude
        still = slice(3 * size - (size - 2 * len(shape.turning)), 3 * size)
        scale = math.sqrt(shape.look_up_gap * math.sqrt(size) / shape.name_code)
        mix = _orthogonal(still.stop - still.start, shape.name_code) * scale
        block.q.weight[still, self._room(1)] += mix
        block.k.weight[still, self._room(1)] += mix
        wanted = torch.zeros(shape.name_code)
        wanted[-2:] = -1.0
        block.q.bias[still] = mix @ wanted * shape.mark_gain


def _orthogonal(rows: int, columns: int) -> Tensor:
    """Draw a matrix with orthonormal rows (or columns, if there are fewer of them)."""
    return nn.init.orthogonal_(torch.empty(rows, columns))


def frequencies(shape: Shape) -> Tensor:
    """Rotary frequency of each pair of a head."""
    still = shape.head_width // 2 - len(shape.turning)
    return torch.tensor([*shape.turning, *[0.0] * still])


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn neighbouring pairs by their position's angle."""
    cos, sin = rotation
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
