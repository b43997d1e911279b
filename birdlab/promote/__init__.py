"""From finished cells to one ONNX file: export, ensemble, parity, registry."""
