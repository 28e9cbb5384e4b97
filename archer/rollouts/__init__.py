"""A step's rollouts: sampled, graded while others are sampled, filtered by signal, one step ahead if asked.

In: a place in the problem stream. Out: graded groups, and the place after them. May use: engines, problems, trainer
and below.
"""
