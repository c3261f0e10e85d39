"""Training of the tokenizer and the network."""
