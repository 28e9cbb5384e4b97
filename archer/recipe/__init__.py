"""Recipes: one YAML file into typed, frozen sections. In: a name or a path, and changes. Out: a ``Recipe``.

May use: algorithms, and what lies beside the rooms (errors, types, system, distributed).
"""
