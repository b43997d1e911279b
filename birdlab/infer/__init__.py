"""Inference without torch: an ONNX session, soundscapes, a submission."""
