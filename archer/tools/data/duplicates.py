"""Near-copies within a training set, found by shared word n-grams. Pure, except for reading the candidates.

Two statements are copies if at least ``share`` of the shorter one's n-grams occur in the longer one, so that a copy may
have gained a note or lost its examples. The first of several copies is kept: sources come in order of preference.
Statements of fewer than ``n`` words are copies only if all words agree. N-grams of more than ``most`` kept statements
count as phrases (``the first line contains a single integer``) and are ignored.
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
    """``n`` words per n-gram, the ``share`` of n-grams that makes a copy, ``most`` owners of an n-gram that counts."""

    n: int = 13
    share: float = 0.5
    most: int = 50

    def __post_init__(self) -> None:
        """Raise RecipeError for values that make no sense."""
        if self.n < 2 or not 0 < self.share <= 1 or self.most < 1:
            raise RecipeError(f"duplicates: expected n >= 2, 0 < share <= 1 and most >= 1, found {self}")

    def copies(self, candidates: Iterable[Candidate]) -> Iterator[Drop]:
        """Yield the copies of earlier candidates. Iterates twice and needs 8 bytes of memory per n-gram."""
        repeated = self._repeated(candidates)
        texts, owners = dict[bytes, str](), defaultdict[int, list[int]](list)
        kept, sizes = list[str](), list[int]()
        for candidate in candidates:
            words = words_of(candidate.statement)
            whole = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
            if whole in texts:
                yield Drop(candidate.id, "same words", texts[whole])
                continue
            hashes = _hashes(words, self.n)
            copy, share = self._closest(hashes, owners, sizes)
            if share >= self.share:
                yield Drop(candidate.id, "near-copy", f"{kept[copy]}: {share:.2f} of the {self.n}-grams")
                continue
            texts[whole] = candidate.id
            for gram in repeated.intersection(hashes):
                owners[gram].append(len(kept))
            kept.append(candidate.id)
            sizes.append(len(hashes))

    def _repeated(self, candidates: Iterable[Candidate]) -> set[int]:
        """Return the n-grams of more than one statement, the only ones that need owners. Exact copies count once."""
        texts, parts = set[bytes](), list[Hashes]()
        for candidate in candidates:
            words = words_of(candidate.statement)
            whole = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
            if whole not in texts:
                texts.add(whole)
                parts.append(np.fromiter(_hashes(words, self.n), dtype=np.uint64))
        every = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)
        return set(np.unique(every[1:][every[1:] == every[:-1]]).tolist())

    def _closest(self, hashes: set[int], owners: dict[int, list[int]], sizes: Sequence[int]) -> tuple[int, float]:
        """Return the earliest kept statement with the largest share of n-grams, and that share; (-1, 0) for none."""
        common = Counter[int]()
        for gram in hashes:
            known = owners.get(gram, ())
            if len(known) <= self.most:
                common.update(known)
        if not common:
            return -1, 0.0
        shares = {owner: count / min(len(hashes), sizes[owner]) for owner, count in common.items()}
        best = max(shares, key=lambda owner: (shares[owner], -owner))
        return best, shares[best]


def _hashes(words: Sequence[str], n: int) -> set[int]:
    """Return the distinct n-grams as 64-bit hashes; among 10^8 n-grams two collide once in 4000 times."""
    return {
        int.from_bytes(hashlib.blake2b(" ".join(gram).encode(), digest_size=8).digest(), "little")
        for gram in grams(words, n)
    }
