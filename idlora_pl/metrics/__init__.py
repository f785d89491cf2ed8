"""Metrics of generated clips as torchmetrics ``Metric``s over tensors; networks come in as arguments."""
