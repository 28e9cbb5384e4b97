"""Problems: rows of data sets, of files and of the lab, each with the gold that grades it.

In: a recipe's ``data`` sources. Out: ``Problem`` records, and endless streams of them. May use: rewards and below.
"""
