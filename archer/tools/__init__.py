"""Tools behind commands: plans and profiles of runs, attacks on the sandbox, training data, overlap, the lab's model.

In: a recipe, files of rows, or a sandbox. Out: plans, profiles, reports, data sets. May use: every room but commands.
Nothing else loads them, but ``train`` for ``--profile``.
"""
