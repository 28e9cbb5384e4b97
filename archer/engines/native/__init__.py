"""The native engine samples in this process from any Hugging Face causal LM, on the CPU or one GPU."""

from archer.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
