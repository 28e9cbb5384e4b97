"""A step's rollouts: sampled, graded meanwhile, filtered by signal, and with prefetch one step ahead.

In: a cursor in the problem stream. Out: graded groups, and the next cursor. May use: engines, problems, trainer
and below.
"""
