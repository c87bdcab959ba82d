"""Types, configuration and errors that every layer may import; knows no other layer."""
