"""Near-copies within a training set, by n words in a row. Pure, but for the reading of the candidates.

Two statements are copies where at least ``share`` of the shorter one's n-grams stand in the longer one, so that a
copy may have gained a note or lost its examples. Of copies the first stays: sources come in the order preferred.
Statements of fewer than ``n`` words are copies only where all words agree. N-grams that more than ``most`` kept
statements have are taken for phrases (``the first line contains a single integer``) and prove nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import with_config

from archer.errors import RecipeError
from archer.recipe.config import STRICT
from archer.tools.data.candidate import Candidate, Drop
from archer.tools.overlap import grams, words_of

Hashes = NDArray[np.uint64]


@with_config(STRICT)
@dataclass(frozen=True)
class Duplicates:
    """``n`` words in a row, the ``share`` of them that makes a copy, ``most`` owners of an n-gram that counts."""

    n: int = 13
    share: float = 0.5
    most: int = 50

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises RecipeError."""
        if self.n < 2 or not 0 < self.share <= 1 or self.most < 1:
            raise RecipeError(f"duplicates: expected n >= 2, 0 < share <= 1 and most >= 1, found {self}")

    def copies(self, candidates: Iterable[Candidate]) -> Iterator[Drop]:
        """Yield what is a copy of an earlier candidate; iterates twice. Memory: 8 bytes an n-gram."""
        repeated = self._repeated(candidates)
        texts, owners = dict[bytes, str](), defaultdict[int, list[int]](list)
        kept, sizes = list[str](), list[int]()
        for one in candidates:
            words = words_of(one.statement)
            whole = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
            if whole in texts:
                yield Drop(one.id, "same words", texts[whole])
                continue
            hashes = _hashes(words, self.n)
            copy, share = self._closest(hashes, owners, sizes)
            if share >= self.share:
                yield Drop(one.id, "near-copy", f"{kept[copy]}: {share:.2f} of the {self.n}-grams")
                continue
            texts[whole] = one.id
            for gram in repeated.intersection(hashes):
                owners[gram].append(len(kept))
            kept.append(one.id)
            sizes.append(len(hashes))

    def _repeated(self, candidates: Iterable[Candidate]) -> set[int]:
        """Return the n-grams of more than one statement: the only ones that need owners. Exact copies count once."""
        texts, parts = set[bytes](), list[Hashes]()
        for one in candidates:
            words = words_of(one.statement)
            whole = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
            if whole not in texts:
                texts.add(whole)
                parts.append(np.fromiter(_hashes(words, self.n), dtype=np.uint64))
        every = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)
        return set(np.unique(every[1:][every[1:] == every[:-1]]).tolist())

    def _closest(self, hashes: set[int], owners: dict[int, list[int]], sizes: Sequence[int]) -> tuple[int, float]:
        """Return the kept statement that shares most, the earliest of several, and the share; (-1, 0) for none."""
        common = Counter[int]()
        for gram in hashes:
            known = owners.get(gram, ())
            if len(known) <= self.most:
                common.update(known)
        if not common:
            return -1, 0.0
        shares = {place: count / min(len(hashes), sizes[place]) for place, count in common.items()}
        best = max(shares, key=lambda place: (shares[place], -place))
        return best, shares[best]


def _hashes(words: Sequence[str], n: int) -> set[int]:
    """Return the different n-grams, each as 64 bits: of 10^8 two agree by chance once in 4000 times."""
    return {
        int.from_bytes(hashlib.blake2b(" ".join(gram).encode(), digest_size=8).digest(), "little")
        for gram in grams(words, n)
    }
