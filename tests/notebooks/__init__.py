"""What a person does in notebooks, with real kernels."""
