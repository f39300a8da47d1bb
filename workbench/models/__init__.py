"""Model families: where their tensors are, and how to feed them."""
