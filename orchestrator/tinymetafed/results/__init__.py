"""What runs came to: the store, accounts and statistics."""
