"""Names to files, files to tensors: GGUF and safetensors containers, tensor formats, the Hub."""
