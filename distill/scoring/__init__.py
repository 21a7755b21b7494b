"""What networks say of images: logits of any views, into a store or into a batch, and what they are worth."""
