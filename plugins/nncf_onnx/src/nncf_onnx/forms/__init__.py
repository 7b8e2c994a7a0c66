"""The forms in which compressed weights are written into ONNX models, each with what recognises it."""
