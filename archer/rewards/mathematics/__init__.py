"""Compares an answer with a gold: by text first, by algebra last.

answers    which box counts, lists and sides        values      what stands after a number: percent, degrees, bases
plain      exact numbers                            units       units left out, added, converted
wording    words, doubt, LaTeX's spacing            statements  equations and names, what is refused
matching   the comparison, from layout to values    reading     LaTeX to sympy, whole or not at all
equality   when two expressions are equal           numeric     numbers, and expressions at points
enclosures a value between proven bounds            warmed      imported once, before workers are forked

Only ``reading`` knows latex2sympy2; ``equality``, ``numeric`` and ``enclosures`` know sympy, the last two also FLINT.
"""
