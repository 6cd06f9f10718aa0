"""Policies to and from the Hugging Face hub: weights, configuration, record, model card."""
