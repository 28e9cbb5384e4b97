"""The native engine: sampling in this process with any Hugging Face causal LM, on the CPU or one GPU."""

from archer.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
