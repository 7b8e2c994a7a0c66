import onnx_ir as ir
def fold_constants(model): return 0
