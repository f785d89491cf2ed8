"""Face networks in ONNX: ArcFace with its detector, and MobileFaceNet."""
