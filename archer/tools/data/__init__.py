"""Training data from public problems: ``archer data build`` runs the steps of a pipeline in ``pipelines/``."""
