"""The commands of ``archer``, a file each. Each imports what it needs when it runs, so that help needs no torch."""
