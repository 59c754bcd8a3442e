"""A transformer small enough to train in minutes on a CPU, with its tokenizer and sampler.

Tokens are words, single digits and signs. A sequence is the problem, then the response. Positions are numbered so that
every response starts at PROMPT_LENGTH, whatever the length of its problem. Training rows are padded on the right, where
causal attention does not reach. A batch of samples has prompts of equal length, so that its rows share a key-value
cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PROMPT_LENGTH = 64
RESPONSE_LENGTH = 90
PIECE = re.compile(r"\n|####|\d|[A-Za-z]+|[^\w\s]")
PAD, END = 0, 1

Cache = tuple[Tensor, Tensor]
"""Keys and values, each float32 [B, heads, length, width / heads]."""


class Tokenizer:
    """Convert text to ids and back, with the closed vocabulary of the given texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        pieces = {piece for text in texts for piece in PIECE.findall(text)} | set("0123456789")
        self.pieces = ["<pad>", "<end>", *sorted(pieces)]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text.

        Raises:
            KeyError: a piece outside the vocabulary.
        """
        return [self.ids[piece] for piece in PIECE.findall(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, with digits joined and no blanks before punctuation or around line ends."""
        text = " ".join(self.pieces[i] for i in ids)
        text = re.sub(r"(?<=\d) (?=\d)", "", text)
        text = re.sub(r" (?=[.,:?])", "", text)
        return re.sub(r" ?\n ?", "\n", text)


class Sample(NamedTuple):
    """One sampled response."""

    tokens: list[int]
    """Without the end token."""
    mean_logprob: float
    """Over all sampled tokens, the end token included."""
    finish_reason: str
    """"stop" if the policy ended the response, "length" if RESPONSE_LENGTH did."""


class Block(nn.Module):
    """Causal attention and a feed-forward layer with pre-normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, cache: Cache | None, start: int) -> Tensor:
        """Apply the block to x, float32 [B, T, width], at position `start` of the cache, if there is one."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0][:, :, start : start + length], cache[1][:, :, start : start + length] = k, v
            k, v = (part[:, :, : start + length] for part in cache)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        fed: Tensor = x + self.feed(self.before_feed(x))
        return fed


class Policy(nn.Module):
    """A decoder: token and position embeddings, blocks, and a head."""

    def __init__(self, vocabulary: int, width: int = 96, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(PROMPT_LENGTH + RESPONSE_LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.05)

    def forward(
        self, ids: Tensor, positions: Tensor, caches: Sequence[Cache | None] | None = None, start: int = 0
    ) -> Tensor:
        """Hidden states float32 [B, T, width] of ids int64 [B, T] at positions int64 [B, T] or [T]."""
        x = self.tokens(ids) + self.positions(positions)
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks), strict=True):
            x = block(x, cache, start)
        normed: Tensor = self.norm(x)
        return normed

    def loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """Mean cross-entropy of the response tokens (end included) over pairs of prompt ids and response ids."""
        rows = [[*prompt, *response, END] for prompt, response in pairs]
        length = max(map(len, rows))
        ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
        starts = torch.tensor([len(prompt) for prompt, _ in pairs])[:, None]
        position = torch.arange(length - 1)
        scored = (position >= starts - 1) & (ids[:, 1:] != PAD)
        hidden = self(ids[:, :-1], (position - starts + PROMPT_LENGTH).clamp(max=len(self.positions.weight) - 1))
        return functional.cross_entropy(self.head(hidden[scored]), ids[:, 1:][scored])

    @torch.inference_mode()
    def sample(self, prompts: Sequence[list[int]], count: int, generator: torch.Generator) -> list[Sample]:
        """Draw `count` samples for each prompt at temperature 1, in the order of prompts of equal length."""
        ids, logprobs = self._draw(torch.tensor(prompts), count, generator)
        samples = []
        for row, values in zip(ids.tolist(), logprobs.tolist(), strict=True):
            ended = END in row
            length = row.index(END) + 1 if ended else len(row)
            tokens = row[: length - 1] if ended else row
            samples.append(Sample(tokens, sum(values[:length]) / length, "stop" if ended else "length"))
        return samples

    def _draw(self, prompts: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled ids and their log probabilities, [B * count, at most RESPONSE_LENGTH]."""
        batch, start = prompts.shape
        shape = (batch, self.heads, start + RESPONSE_LENGTH, self.width // self.heads)
        caches = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]
        hidden = self(prompts, torch.arange(PROMPT_LENGTH - start, PROMPT_LENGTH), caches)[:, -1]
        hidden = hidden.repeat_interleave(count, 0)
        caches = [(k.repeat_interleave(count, 0), v.repeat_interleave(count, 0)) for k, v in caches]
        done = torch.zeros(batch * count, dtype=torch.bool)
        ids, logprobs = [], []
        for i in range(RESPONSE_LENGTH):
            log = functional.log_softmax(self.head(hidden), -1)
            drawn = torch.multinomial(log.exp(), 1, generator=generator)
            ids.append(drawn)
            logprobs.append(log.gather(1, drawn))
            done |= drawn[:, 0] == END
            if done.all():
                break
            hidden = self(drawn, torch.tensor([PROMPT_LENGTH + i]), caches, start + i)[:, -1]
        return torch.cat(ids, 1), torch.cat(logprobs, 1)
