"""HTTP: an ASGI app around an AsyncEngine, one package or module per dialect. Knows no kernel and no scheduler."""
