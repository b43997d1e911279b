"""From windows to stored outputs to scores: what a cell leaves behind and how good it is."""
