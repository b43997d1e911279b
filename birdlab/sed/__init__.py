"""The network and how it learns: front-end, augmentations, model, losses, loader, fit."""
