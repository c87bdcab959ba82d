"""The dialect of Ollama's API: /api/generate, /api/chat, and what lists and describes the model served."""
