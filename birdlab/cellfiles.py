"""What the files in a cell's folder are called."""

CARD, WEIGHTS = "cell.json", "weights.safetensors"
