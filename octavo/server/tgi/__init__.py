"""The dialect of Text Generation Inference: /generate, /generate_stream, POST /, /info, /tokenize, /chat_tokenize."""
