"""The demo model: dialogues, tokenizer, training and export. See README.md beside this file."""
