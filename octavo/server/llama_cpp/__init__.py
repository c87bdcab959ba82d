"""The dialect of llama.cpp's server: /completion, /tokenize, /detokenize, /apply-template, /props."""
