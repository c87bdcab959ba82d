"""Text in, token ids out, and back: tokenizers, incremental detokenization, chat templates."""
