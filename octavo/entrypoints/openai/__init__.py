"""`python -m octavo.entrypoints.openai.api_server`: see api_server."""
