"""Values on their way out of a program and into it, as tagged JSON. See ``runner.py``; the host has its own side."""


def plain(value):
    """Write a value as JSON: lists as they are, other containers as ``{"tuple": [...]}`` and the like.

    Subclasses are read through the built-in type they extend, so that they cannot lie about what they hold.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    for base, read in ((int, int.__int__), (float, float.__float__), (str, str.__str__)):
        if issubclass(kind, base):
            return read(value)
    if issubclass(kind, list):
        return [plain(item) for item in list.__iter__(value)]
    for base in (tuple, set, frozenset):
        if issubclass(kind, base):
            return {base.__name__: [plain(item) for item in base.__iter__(value)]}
    if issubclass(kind, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in dict.items(value)]}
    if issubclass(kind, complex):
        return {"complex": [complex.real.__get__(value), complex.imag.__get__(value)]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():  # a number of numpy's own kind
        return plain(value.item())
    raise TypeError(f"the result holds a {kind.__name__}, which is no plain value")


def rebuilt(value):
    """Read what the host wrote in the same way."""
    if isinstance(value, list):
        return [rebuilt(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "complex":
        return complex(*inner)
    return {"tuple": tuple, "set": set, "frozenset": frozenset, "dict": dict}[kind](rebuilt(inner))
