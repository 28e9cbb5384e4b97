"""The commands of ``archer``, a file each. Each imports what it needs when it runs, so that help needs no torch.

In: what the user typed. Out: text on the terminal, and an exit code. May use: every room.
"""
