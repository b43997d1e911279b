"""Runs as MLflow shows them, and the lab's own index of them."""
